package relukko_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// The tests in this file are failures that other distributed locks had in production.

// TestShortOutageLosesNothingWhenAProxyAnswers requires that a response of a proxy counts as an
// outage, not as a refusal by the backend.
func TestShortOutageLosesNothingWhenAProxyAnswers(t *testing.T) {
	answers := []relukkotest.Answer{
		{Status: 302, Header: http.Header{"Location": {"https://login.example/"}}, Body: "moved"},
		{Status: 403, Body: "<html>Forbidden"},
		{Status: 403, Body: `{"status":403,"message":"no","path":"/"}`}, // one member too many
		{Status: 404, Body: `{"status":403,"message":"another status"}`},
	}
	for _, status := range []int{
		401, 408, 421, 425, 501, 505, 507, 509, 511, 520, 521, 522, 524, 530,
	} {
		answers = append(answers, relukkotest.Answer{Status: status, Body: "<html>gateway"})
	}
	for _, a := range answers {
		plainly(t, fmt.Sprint("renew/", a.Status), func(t *testing.T, s *relukkotest.Server) {
			m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(20*time.Second))
			held := lock(t, m)
			time.Sleep(20 * time.Second)
			s.AnswerNext(-1, nil, a)
			time.Sleep(9 * time.Second)
			s.Heal()
			time.Sleep(20 * time.Second)
			require.NoError(t, held.Err(), "%v", context.Cause(held))
			require.NoError(t, m.Unlock(held))
		})
		name := fmt.Sprint("create and release/", a.Status)
		plainly(t, name, func(t *testing.T, s *relukkotest.Server) {
			s.AnswerNext(-1, nil, a)
			heal := time.AfterFunc(7*time.Second, s.Heal)
			m := relukko.NewMutex(s.Client(), "arm")
			held := lock(t, m)
			require.False(t, heal.Stop())
			s.AnswerNext(-1, nil, a)
			time.AfterFunc(7*time.Second, s.Heal)
			require.NoError(t, m.Unlock(held))
			require.Empty(t, s.Locks())
		})
	}
}

// TestNothingHangsInSilenceWhenAProxyRefuses requires that a lasting refusal by a proxy ends Lock,
// and that the error says where it came from.
func TestNothingHangsInSilenceWhenAProxyRefuses(t *testing.T) {
	for _, status := range []int{302, 401, 403, 404} {
		plainly(t, http.StatusText(status), func(t *testing.T, s *relukkotest.Server) {
			s.AnswerNext(-1, nil, relukkotest.Answer{Status: status, Body: "<html>Sign in"})
			start := time.Now()
			_, err := relukko.NewMutex(s.Client(), "arm").Lock(t.Context())
			require.ErrorContains(t, err, "something on the way")
			require.ErrorContains(t, err, fmt.Sprint(status))
			require.InDelta(t, 10*time.Second, time.Since(start), float64(4*time.Second))
		})
	}
}

// tcpProxy forwards connections to a backend. While it is full, as a server without free file
// descriptors is, new connections hang, and the others go on working.
type tcpProxy struct {
	net.Listener
	full  atomic.Bool
	conns sync.Map
}

func newTCPProxy(t *testing.T, backend string) *tcpProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &tcpProxy{Listener: l}
	go p.serve(backend)
	t.Cleanup(func() {
		l.Close()
		p.conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
	})
	return p
}

func (p *tcpProxy) serve(backend string) {
	for {
		c, err := p.Accept()
		if err != nil {
			return
		}
		p.conns.Store(c, nil)
		if p.full.Load() {
			continue
		}
		b, err := net.Dial("tcp", backend)
		if err != nil {
			continue
		}
		p.conns.Store(b, nil)
		go io.Copy(b, c)
		go io.Copy(c, b)
	}
}

// TestOneFaultNeverMakesTwoWhenNewConnectionsHang requires that connections that work are kept.
func TestOneFaultNeverMakesTwoWhenNewConnectionsHang(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]api.Option{
		"with a WebSocket":    nil,
		"without a WebSocket": {api.WithoutWatch()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t, relukkotest.WithoutStream())
			proxy := newTCPProxy(t, strings.TrimPrefix(s.URL, "http://"))
			c, err := api.New("http://"+proxy.Addr().String(), s.APIKey, opts...)
			require.NoError(t, err)
			defer c.Close()
			m := relukko.NewMutex(c, "arm", relukko.WithTTL(2*time.Second))
			held := lock(t, m)
			proxy.full.Store(true)
			select {
			case <-held.Done():
				t.Errorf("lost: %v", context.Cause(held))
			case <-time.After(9 * time.Second): // the attempt to get a WebSocket ends after 5 s
			}
			require.NoError(t, m.Unlock(held))
		})
	}
}

// repeater carries out the next request of a method twice, and returns the second response: a
// proxy that has lost the first.
type repeater struct {
	next   http.Handler
	method atomic.Value // string
}

func (p *repeater) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.method.CompareAndSwap(r.Method, "") {
		body, _ := io.ReadAll(r.Body)
		first := r.Clone(context.WithoutCancel(r.Context()))
		first.Body = io.NopCloser(bytes.NewReader(body))
		p.next.ServeHTTP(httptest.NewRecorder(), first)
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	p.next.ServeHTTP(w, r)
}

func TestUnlockTellsTheTruthWhenAProxyRepeatsRequests(t *testing.T) {
	s := relukkotest.NewServer(t)
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	p := &repeater{next: httputil.NewSingleHostReverseProxy(u)}
	p.method.Store("")
	front := httptest.NewServer(p)
	defer front.Close()
	c, err := api.New(front.URL, s.APIKey)
	require.NoError(t, err)
	defer c.Close()
	m := relukko.NewMutex(c, "arm")
	require.NoError(t, m.Unlock(lock(t, m)))

	p.method.Store("DELETE")
	require.NoError(t, m.Unlock(lock(t, m)))

	p.method.Store("POST")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	held, err := m.Lock(ctx)
	require.NoError(t, err, "it does not queue for its own lock")
	require.NoError(t, m.Unlock(held))

	held = lock(t, m)
	s.Delete("arm")
	p.method.Store("DELETE")
	require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost, "another client has deleted it")
	require.Empty(t, s.Locks())
}

// retrying is a RoundTripper that repeats a failed request.
type retrying struct{ next http.RoundTripper }

func (r retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		again := req.Clone(req.Context())
		if req.GetBody != nil {
			again.Body, _ = req.GetBody()
		}
		resp, err = r.next.RoundTrip(again)
	}
	return resp, err
}

func TestUnlockTellsTheTruthWhenATransportRepeatsRequests(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		client := s.HTTPClient()
		client.Transport = retrying{client.Transport}
		m := relukko.NewMutex(s.Client(api.WithHTTPClient(client)), "arm")
		s.CutNext(1, create)
		start := time.Now()
		held := lock(t, m)
		require.Less(t, time.Since(start), 5*time.Second)
		s.CutNext(1, release)
		require.NoError(t, m.Unlock(held))
		require.Empty(t, s.Locks())
	})
}

// TestLockedErrorAfterALoss requires that the error says who blocks the name, after a goroutine of
// this process has lost the lock and before it calls Unlock.
func TestLockedErrorAfterALoss(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		time.Sleep(2 * time.Second)
		s.Delete("arm")
		<-held.Done()
		_, err := m.TryLock(t.Context())
		var locked *relukko.LockedError
		require.ErrorAs(t, err, &locked)
		require.Nil(t, locked.Holder)
		require.NotNil(t, locked.Lost)
		require.Equal(t, session(t, held).Info().ID, locked.Lost.ID)
		require.ErrorContains(t, err, "has not called Unlock")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = m.Lock(ctx)
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.ErrorContains(t, err, "has not called Unlock")
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
	})
}

func TestZeroMutex(t *testing.T) {
	var m relukko.Mutex
	held, err := m.Lock(t.Context())
	require.ErrorContains(t, err, "NewMutex")
	require.Error(t, held.Err())
	_, err = m.TryLock(t.Context())
	require.ErrorContains(t, err, "NewMutex")
	require.ErrorContains(t, m.Do(t.Context(), nil), "NewMutex")
	require.ErrorIs(t, m.Unlock(held), relukko.ErrNotLocked)
	require.Empty(t, m.Name())
	require.Panics(t, m.Locker().Lock)
	require.Panics(t, m.Locker().Unlock)
}

// logged returns a logger, and a function that returns what was logged.
func logged() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var log bytes.Buffer
	w := writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	})
	return slog.New(slog.NewTextHandler(w, nil)), func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestForgottenUnlockIsLogged(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		logger, text := logged()
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithLogger(logger))
		ctx, cancel := context.WithCancel(t.Context())
		held, err := m.Lock(ctx)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.Empty(t, text())
		cancel()
		time.Sleep(59 * time.Second)
		require.Empty(t, text())
		time.Sleep(time.Minute)
		require.Equal(t, 1, strings.Count(text(), "was Unlock forgotten?"))
		time.Sleep(time.Hour)
		require.InDelta(t, 7, strings.Count(text(), "was Unlock forgotten?"), 1, "each 10 min")
		require.NoError(t, session(t, held).Err(), "the lock is still renewed")
		require.NoError(t, m.Unlock(held))
	})
}

// TestOutageIsLoggedBriefly requires a short log of an outage, without negative durations.
func TestOutageIsLoggedBriefly(t *testing.T) {
	for _, outage := range outages {
		plainly(t, outage.name, func(t *testing.T, s *relukkotest.Server) {
			logger, text := logged()
			m := relukko.NewMutex(s.Client(), "arm",
				relukko.WithLogger(logger), relukko.WithTTL(10*time.Second))
			held := lock(t, m)
			time.Sleep(20 * time.Second)
			outage.begin(s)
			<-held.Done()
			synctest.Wait()
			require.LessOrEqual(t, strings.Count(text(), "lock not renewed"), 2, text())
			require.NotRegexp(t, regexp.MustCompile(`=-\d`), text())
			outage.end(s)
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		})
	}
}

// TestWaiterReturnsFirstAfterARestart requires that a waiter whose server shuts down queues on the
// next server immediately, ahead of later clients.
func TestWaiterReturnsFirstAfterARestart(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		holder := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(time.Hour))
		held := lock(t, holder)
		waiter := relukko.NewMutex(s.Client(), "arm")
		var others atomic.Int64
		before := make(chan int64, 1) // how many of the others had the lock
		go func() {
			waited := lock(t, waiter)
			before <- others.Load()
			waiter.Unlock(waited)
		}()
		time.Sleep(2 * time.Second)
		s.Reconfigure() // a new server on the same store; the old one sends 503, Retry-After: 0
		time.Sleep(500 * time.Millisecond)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			m := relukko.NewMutex(s.Client(), "arm")
			wg.Go(func() {
				for ctx.Err() == nil {
					if h, err := m.Lock(ctx); err == nil {
						others.Add(1)
						time.Sleep(30 * time.Millisecond)
						m.Unlock(h)
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, holder.Unlock(held))
		start := time.Now()
		require.Zero(t, <-before)
		require.LessOrEqual(t, time.Since(start), 2*time.Second, "while others come back")
		stop()
		wg.Wait()
	})
}

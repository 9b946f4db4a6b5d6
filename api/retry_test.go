package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// script answers the n-th request with its n-th handler, and all later ones
// with the last. It notes when they came.
type script struct {
	handlers []http.HandlerFunc

	mu    sync.Mutex
	times []time.Time
}

func (s *script) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.handlers[min(len(s.times), len(s.handlers)-1)]
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	h(w, r)
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times)
}

// silence reads the request and never answers.
func silence(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestRetriesBackOff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &script{handlers: []http.HandlerFunc{answer(503, "busy")}}
		c, _ := inMemory(t, s.serve)
		begin := time.Now()
		_, err := c.Delete(t.Context(), testID)
		require.EqualError(t, err, "relukko: delete lock "+testID+": 503 Service Unavailable: busy")
		e, _ := errors.AsType[*Error](err)
		require.True(t, e.MaybeDone)
		took := time.Since(begin)
		require.LessOrEqual(t, took, retryTime)
		require.GreaterOrEqual(t, took, retryTime-2*time.Second)
		require.Greater(t, s.count(), 30)
		for i := range s.count() - 1 {
			gap := s.times[i+1].Sub(s.times[i])
			require.LessOrEqual(t, gap, 2*time.Second)
			require.GreaterOrEqual(t, gap, 25*time.Millisecond)
			if i == 0 {
				require.LessOrEqual(t, gap, 75*time.Millisecond+1)
			}
		}

		// With a deadline, until then.
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		begin = time.Now()
		_, err = c.Delete(ctx, testID)
		require.ErrorContains(t, err, "503")
		require.LessOrEqual(t, time.Since(begin), 90*time.Second)
		require.GreaterOrEqual(t, time.Since(begin), 88*time.Second)
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		date := func(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
		for _, h := range []http.HandlerFunc{
			answer(429, "", "Retry-After", "7"),
			answer(503, "", "Retry-After", " 7 "),
			func(w http.ResponseWriter, r *http.Request) { // a clock 7 hours off
				now := time.Now().Add(7 * time.Hour)
				answer(503, "", "Date", date(now), "Retry-After", date(now.Add(7*time.Second)))(w,
					r)
			},
		} {
			c, _ := inMemory(t,
				(&script{handlers: []http.HandlerFunc{h, answer(200, testLock)}}).serve)
			begin := time.Now()
			_, err := c.Get(t.Context(), testID)
			require.NoError(t, err)
			require.Equal(t, 7*time.Second, time.Since(begin))
		}

		// There is no waiting for what comes too late.
		c, _ := inMemory(t, answer(503, "", "Retry-After", "61"))
		begin := time.Now()
		_, err := c.Get(t.Context(), testID)
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		require.Equal(t, 61*time.Second, e.RetryAfter)
		require.True(t, Transient(err))
		require.Zero(t, time.Since(begin))
	})
}

func TestRetryAfter(t *testing.T) {
	now := "Thu, 31 Oct 2024 20:14:43 GMT"
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, "120": 2 * time.Minute, "-1": 0, "1.5": 0, "soon": 0,
		"+1":                               0,
		"9223372037":                       1<<63 - 1,
		"99999999999999999999":             1<<63 - 1,
		"Thu, 31 Oct 2024 20:14:53 GMT":    10 * time.Second,
		"Thursday, 31-Oct-24 20:14:53 GMT": 10 * time.Second,
		"Thu, 31 Oct 2024 20:14:33 GMT":    0,
		"Fri, 31 Dec 9999 23:59:59 GMT":    1<<63 - 1,
	} {
		require.Equal(t, want, retryAfter(http.Header{"Retry-After": {value}, "Date": {now}}),
			value)
	}
	later := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	require.InDelta(t, time.Hour, retryAfter(http.Header{"Retry-After": {later}}),
		float64(2*time.Second))
}

// What must not be done twice is asked once.
func TestCreateAndAddToExpiryAreNotRepeated(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, h := range []http.HandlerFunc{
			answer(500, ""), answer(429, ""), silence, func(http.ResponseWriter, *http.Request) {
				panic(http.ErrAbortHandler)
			},
		} {
			s := &script{handlers: []http.HandlerFunc{h}}
			c, _ := inMemory(t, s.serve)
			_, err := c.Create(t.Context(), testName, "")
			require.True(t, Transient(err))
			_, err = c.AddToExpiry(t.Context(), testID, 0)
			require.True(t, Transient(err))
			require.Equal(t, 2, s.count())
		}
	})
}

// net/http repeats some requests by itself when a kept connection breaks. Of
// ours it repeats none that may have been read, but reads.
func TestNetHTTPReplaysNothing(t *testing.T) {
	// In a bubble, as net/http keeps only connections on which all was written in 50 ms.
	bubble.Test(t, testNetHTTPReplaysNothing)
}

func testNetHTTPReplaysNothing(t *testing.T) {
	var requests atomic.Int32
	m := newMemory()
	serveRaw(t, m, func(conn net.Conn) { // answers one request, reads the next one, and closes
		if _, err := readRequest(conn); err != nil {
			return
		}
		requests.Add(1)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if _, err := readRequest(conn); err == nil {
			requests.Add(1)
		}
	})
	for _, opts := range [][]Option{nil,
		{WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: m.DialContext}})}} {
		for _, do := range []func(*Client) error{
			func(c *Client) error { _, err := c.Create(t.Context(), testName, ""); return err },
			func(c *Client) error { _, err := c.AddToExpiry(t.Context(), testID, 0); return err },
			func(c *Client) error {
				return c.attempt(t.Context(), &call{kind: isLock, method: "DELETE", id: testID},
					new(attempt))
			},
			func(c *Client) error {
				return c.attempt(t.Context(), &call{kind: isLock, method: "PUT", id: testID,
					path: "/keep_alive", body: []byte(`{"seconds":60}`)}, new(attempt))
			},
		} {
			requests.Store(0)
			c := client(t, "http://backend:3000", opts...)
			c.transport().client.Transport.(*http.Transport).DialContext = m.DialContext
			require.NoError(t, c.Health(t.Context()))
			err := do(c)
			require.True(t, Transient(err), "%v", err)
			require.False(t, NoEffect(err))
			require.EqualValues(t, 2, requests.Load())
		}
	}
}

func TestTimeouts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, silence)
		took := func(f func(context.Context) error) (time.Duration, error) {
			begin := time.Now()
			err := f(t.Context())
			require.Error(t, err)
			return time.Since(begin), err
		}
		d, err := took(func(ctx context.Context) error {
			_, err := c.Create(ctx, testName, "")
			return err
		})
		require.Equal(t, 5*time.Second, d)
		require.ErrorContains(t, err, "no answer within 5s")
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, Transient(err))
		require.False(t, NoEffect(err))

		d, _ = took(func(ctx context.Context) error {
			_, err := c.Create(ctx, testName, "", Wait(30*time.Second))
			return err
		})
		require.Equal(t, 35*time.Second, d)

		d, _ = took(func(ctx context.Context) error {
			_, err := c.AddToExpiry(ctx, testID, 0)
			return err
		})
		require.Equal(t, 5*time.Second, d)

		d, err = took(func(ctx context.Context) error { _, err := c.List(ctx); return err })
		require.Equal(t, 60*time.Second, d, "no time is left for another")
		require.ErrorContains(t, err, "no answer within 1m0s")

		d, err = took(func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			_, err := c.Get(ctx, testID)
			return err
		})
		require.Equal(t, 3*time.Second, d)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, Transient(err))

		// The last word before the context ended is not lost.
		c, _ = inMemory(t, (&script{handlers: []http.HandlerFunc{answer(503, "restarting"),
			silence}}).serve)
		d, err = took(func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := c.Get(ctx, testID)
			return err
		})
		require.Equal(t, time.Second, d)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err,
			"relukko: get lock "+testID+": context deadline exceeded "+
				"(before that: 503 Service Unavailable: restarting)")
		require.False(t, Transient(err))

		// A cancelled context ends the wait between two attempts.
		c, _ = inMemory(t, answer(503, "", "Retry-After", "30"))
		d, err = took(func(ctx context.Context) error {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(2*time.Second, func() { cancel(errors.New("enough")) })
			_, err := c.Get(ctx, testID)
			return err
		})
		require.Equal(t, 2*time.Second, d)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err,
			"context canceled: enough (before that: 503 Service Unavailable)")
		last, ok := errors.AsType[*Error](LastAttempt(err))
		require.True(t, ok)
		require.Equal(t, 503, last.Status)
		_, ok = errors.AsType[*Error](err)
		require.False(t, ok, "err itself is the end of the context")
		require.NoError(t, LastAttempt(context.Canceled))
	})
}

// The shorter Timeout of a given client counts, a wait on the server comes on top.
func TestTimeoutsOfAGivenClient(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newMemory() // nobody accepts
		transport := &http.Transport{DialContext: m.DialContext}
		for timeout, want := range map[time.Duration]time.Duration{0: 5 * time.Second,
			time.Second: time.Second, time.Minute: 5 * time.Second} {
			c := client(t, "http://backend",
				WithHTTPClient(&http.Client{Transport: transport, Timeout: timeout}))
			begin := time.Now()
			_, err := c.Create(t.Context(), testName, "")
			require.ErrorContains(t, err, "no answer within "+want.String())
			require.True(t, Transient(err))
			require.True(t, NoEffect(err), "there was no connection")
			require.Equal(t, want, time.Since(begin))

			begin = time.Now()
			_, err = c.Create(t.Context(), testName, "", Wait(20*time.Second))
			require.True(t, NoEffect(err))
			require.Equal(t, want+20*time.Second, time.Since(begin))

			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			begin = time.Now()
			_, err = c.Create(ctx, testName, "")
			require.ErrorIs(t, err, context.Canceled)
			require.True(t, NoEffect(err))
			require.Equal(t, 100*time.Millisecond, time.Since(begin))
			transport.CloseIdleConnections()
		}
		// NoEffect is never said of a call one of whose attempts may have been read.
		c, m := inMemory(t, func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		time.AfterFunc(10*time.Millisecond, func() { m.Close() })
		_, err := c.Delete(ctx, testID)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "connection refused")
		require.False(t, NoEffect(err))
	})
}

// A kept connection that does not answer is followed by a new one; the other
// kept ones stay.
func TestATimeoutOnAKeptConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		both := make(chan struct{})
		together := func(w http.ResponseWriter, r *http.Request) {
			select {
			case both <- struct{}{}:
			case <-both:
			}
			answer(200, testLock)(w, r)
		}
		s := &script{handlers: []http.HandlerFunc{together, together, silence, answer(200,
			testLock)}}
		c, m := inMemory(t, s.serve)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				_, err := c.Get(t.Context(), testID)
				require.NoError(t, err)
			})
		}
		wg.Wait()
		require.Equal(t, 2, m.dialed())
		_, err := c.Get(t.Context(), testID)
		require.NoError(t, err)
		require.Equal(t, 3, m.dialed(),
			"the third request took a kept connection, its repetition a new one")
		_, err = c.Get(t.Context(), testID)
		require.NoError(t, err)
		require.Equal(t, 3, m.dialed(), "the other kept connection is still there")
	})
}

// All connections that are kept go dead at once, as in a router that restarts.
// Each costs one request its time, but no two requests that follow each other.
func TestAfterATimeoutTheNextRequestTakesANewConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		type connKey struct{}
		var dead sync.Map // connections
		var dark atomic.Bool
		all := make(chan struct{})
		var together atomic.Int32
		m := newMemory()
		s := &http.Server{
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, connKey{}, c)
			},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn := r.Context().Value(connKey{})
				if !dark.Load() {
					dead.Store(conn, nil)
					if together.Add(1) == 3 {
						close(all)
					}
					<-all
				} else if _, gone := dead.Load(conn); gone {
					silence(w, r)
					return
				}
				answer(200, testLock)(w, r)
			}),
		}
		go s.Serve(m)
		defer s.Close()
		transport := &http.Transport{DialContext: m.DialContext, MaxIdleConnsPerHost: 3}
		defer transport.CloseIdleConnections()
		c := client(t, "http://backend", WithHTTPClient(&http.Client{Transport: transport}))
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := c.Get(t.Context(), testID)
				require.NoError(t, err)
			})
		}
		wg.Wait()
		dark.Store(true)
		for range 3 {
			_, err := c.Create(t.Context(), testName, "")
			require.ErrorContains(t, err, "no answer within 5s")
			_, err = c.List(t.Context(), Once())
			require.True(t, err == nil || !Transient(err), "a new connection answers")
		}
		dialed := m.dialed()
		for range 3 {
			_, err := c.Create(t.Context(), testName, "")
			require.NoError(t, err)
		}
		require.Equal(t, dialed+1, m.dialed(), "connections are kept again")
	})
}

// New connections hang, as on a server that is out of descriptors, kept ones
// work: neither a WebSocket nor a request that needs a new connection takes
// them away.
func TestFailuresCloseNoKeptConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newMemory()
		backend := &http.Server{Handler: answer(200, testLock)}
		go backend.Serve(m)
		defer backend.Close()
		hang := make(chan struct{})
		transport := &http.Transport{DialContext: func(ctx context.Context, network,
			addr string) (net.Conn, error) {
			select {
			case <-hang:
				<-ctx.Done()
				return nil, ctx.Err()
			default:
				return m.DialContext(ctx, network, addr)
			}
		}}
		defer transport.CloseIdleConnections()
		c := client(t, "http://backend", WithHTTPClient(&http.Client{Transport: transport}))
		_, err := c.Get(t.Context(), testID)
		require.NoError(t, err)
		close(hang)
		c.transport().suspect.Store(true)
		_, err = c.Create(t.Context(), testName, "")
		require.ErrorContains(t, err, "no answer within 5s", "a new connection")

		w := watch(t, c)
		defer w.Close()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			_, err := c.Create(t.Context(), testName, "", FreshConn())
			require.ErrorContains(t, err, "no answer within 5s")
		})
		for range 30 {
			_, err := c.Get(t.Context(), testID)
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		require.Equal(t, disconnected, <-w.Events())
		require.Equal(t, 1, m.dialed())
	})
}

func TestOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &script{handlers: []http.HandlerFunc{answer(503, "")}}
		c, _ := inMemory(t, s.serve)
		_, err := c.Delete(t.Context(), testID, Once())
		require.True(t, Transient(err))
		require.Equal(t, 1, s.count())

		slow := func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			select {
			case <-time.After(20 * time.Second):
				answer(200, testLock)(w, r)
			case <-r.Context().Done():
			}
		}
		c, _ = inMemory(t, slow)
		begin := time.Now()
		_, err = c.KeepAlive(t.Context(), testID, 0, Once())
		require.ErrorContains(t, err, "no answer within 5s", "there is no deadline to go by")
		require.Equal(t, 5*time.Second, time.Since(begin))

		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		begin = time.Now()
		_, err = c.KeepAlive(ctx, testID, 0, Once())
		require.NoError(t, err)
		require.Equal(t, 20*time.Second, time.Since(begin))
		begin = time.Now()
		_, err = c.KeepAlive(ctx, testID, 0, Once())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(begin))
	})
}

func TestFreshConn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, m := inMemory(t, answer(200, testLock))
		ask := func(opts ...CallOption) {
			_, err := c.Get(t.Context(), testID, opts...)
			require.NoError(t, err)
		}
		ask()
		ask()
		require.Equal(t, 1, m.dialed())
		ask(FreshConn())
		ask(FreshConn())
		require.Equal(t, 3, m.dialed())
		ask()
		require.Equal(t, 3, m.dialed(), "the kept connection is still there")
	})
	// Over our own transport, and one that cannot be copied.
	for _, opts := range [][]Option{nil,
		{WithHTTPClient(&http.Client{Transport: repeating{&http.Transport{}}})}} {
		var closes atomic.Int32
		c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Close {
				closes.Add(1)
			}
			answer(200, testLock)(w, r)
		}), opts...)
		_, err := c.Get(t.Context(), testID, FreshConn())
		require.NoError(t, err)
		require.EqualValues(t, 1, closes.Load())
	}
}

// A slow drip ends with the attempt, within the headers and within the body.
func TestDripsEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var dripping sync.WaitGroup
		defer dripping.Wait()
		drip := func(first string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				dripping.Add(1)
				defer dripping.Done()
				io.Copy(io.Discard, r.Body)
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				defer conn.Close()
				io.WriteString(conn, first)
				for err == nil {
					time.Sleep(time.Second)
					_, err = io.WriteString(conn, "x")
				}
			}
		}
		for _, first := range []string{
			"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA: ", "HTTP/1.1 200 OK\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
			"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 100 Continue\r\n",
		} {
			c, _ := inMemory(t, drip(first))
			begin := time.Now()
			_, err := c.AddToExpiry(t.Context(), testID, 0)
			require.True(t, Transient(err), "%v", err)
			require.LessOrEqual(t, time.Since(begin), 5*time.Second)
		}
	})
}

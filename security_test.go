package relukko_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	testbubble "gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// hostile is a malicious backend. It takes 1 ms for each response.
type hostile struct {
	create, renew func(w http.ResponseWriter) // nil: the correct response
	push          string                      // sent over the WebSocket, without end

	creates, renewals, lists, handshakes atomic.Int64
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	time.Sleep(time.Millisecond)
	good := func(http.ResponseWriter) { lease(w, time.Now(), 10*time.Minute) }
	switch {
	case relukkotest.On("GET", "/ws/")(r):
		h.handshakes.Add(1)
		if h.push == "" {
			http.NotFound(w, r)
			return
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		ctx := conn.CloseRead(context.Background())
		for conn.Write(ctx, websocket.MessageText, []byte(h.push)) == nil {
			time.Sleep(time.Millisecond)
		}
	case r.Method == "POST":
		h.creates.Add(1)
		orElse(h.create, good)(w)
	case r.Method == "PUT":
		h.renewals.Add(1)
		orElse(h.renew, good)(w)
	case relukkotest.On("GET", "/v1/locks/{$}")(r):
		h.lists.Add(1)
		io.WriteString(w, "[]")
	default:
		good(w)
	}
}

func orElse(f, g func(http.ResponseWriter)) func(http.ResponseWriter) {
	if f != nil {
		return f
	}
	return g
}

// lease writes a lock with a lease of this length.
func lease(w http.ResponseWriter, from time.Time, length time.Duration) {
	to := from.Add(length)
	leaseOf(w, from.UTC().Format(time.RFC3339Nano), to.UTC().Format(time.RFC3339Nano))
}

func leaseOf(w http.ResponseWriter, from, to string) {
	fmt.Fprintf(w, `{"id":"950daa20-a814-451e-9407-ec496cf9c136","lock_name":"arm",`+
		`"creator":"x","ip":"::1","expires_at":%q,"created_at":%q,"updated_at":%q}`, to, from, from)
}

func held409(w http.ResponseWriter) {
	w.WriteHeader(http.StatusConflict)
	io.WriteString(w, `{"status":409,"message":"held"}`)
}

// against runs f in a synctest bubble, with a mutex on this backend and a TTL of 3 s.
func (h *hostile) against(
	t *testing.T, name string, f func(t *testing.T, m *relukko.Mutex), opts ...relukko.Option,
) {
	opts = append([]relukko.Option{relukko.WithTTL(3 * time.Second)}, opts...)
	t.Run(name, func(t *testing.T) {
		testbubble.Test(t, func(t *testing.T) {
			defer time.Sleep(time.Minute) // until the backend has ended
			var network faultnet.Memory
			l, err := network.Listen("backend:80")
			require.NoError(t, err)
			s := http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
			go s.Serve(l)
			defer s.Close()
			transport := &http.Transport{DialContext: network.DialContext}
			defer transport.CloseIdleConnections()
			c, err := api.New("http://backend", "key",
				api.WithHTTPClient(&http.Client{Transport: transport}))
			require.NoError(t, err)
			defer func() {
				ended, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				c.Shutdown(ended)
			}()
			f(t, relukko.NewMutex(c, "arm", opts...))
		})
	})
}

// TestOddLeases requires that leases of any length end in a loss or are renewed, with few requests.
func TestOddLeases(t *testing.T) {
	for _, length := range []time.Duration{
		-1 << 62, -time.Hour, -1, 0, 1, time.Microsecond,
		4 * time.Millisecond, 40 * time.Millisecond, 149 * time.Millisecond,
	} {
		h := &hostile{renew: func(w http.ResponseWriter) {
			if length < -time.Hour {
				leaseOf(w, "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z")
				return
			}
			lease(w, time.Now(), length)
		}}
		h.against(t, fmt.Sprint("renewed for ", length), func(t *testing.T, m *relukko.Mutex) {
			held := lock(t, m)
			time.Sleep(11 * time.Second)
			require.LessOrEqual(t, h.renewals.Load(), int64(200))
			if length >= 100*time.Millisecond {
				require.NoError(t, held.Err())
				require.NoError(t, m.Unlock(held))
				return
			}
			lost := requireLost(t, held, relukko.LossUnreachable)
			require.LessOrEqual(t, h.renewals.Load(), int64(2))
			require.ErrorContains(t, lost, "with a lease of")
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		})
		h = &hostile{create: func(w http.ResponseWriter) {
			lease(w, time.Now(), max(length, 1))
		}}
		name := fmt.Sprint("created for ", max(length, 1))
		h.against(t, name, func(t *testing.T, m *relukko.Mutex) {
			held, err := m.Lock(t.Context())
			require.LessOrEqual(t, h.creates.Load(), int64(100))
			if err == nil {
				time.Sleep(10 * time.Second)
				require.LessOrEqual(t, h.renewals.Load(), int64(20))
				m.Unlock(held)
			}
		})
	}
}

func TestLeasesUntilDistantYears(t *testing.T) {
	for _, to := range []string{"9999-12-31T23:59:59Z", "292277-01-01T00:00:00Z"} {
		h := &hostile{renew: func(w http.ResponseWriter) { leaseOf(w, "0000-01-01T00:00:00Z", to) }}
		h.against(t, "renewed until "+to, func(t *testing.T, m *relukko.Mutex) {
			held := lock(t, m)
			time.Sleep(1500 * time.Millisecond)
			if len(to) == len("9999-12-31T23:59:59Z") {
				require.LessOrEqual(t, time.Until(session(t, held).LeaseEnd()), 3*time.Second,
					"no longer than the TTL")
				require.NoError(t, m.Unlock(held))
				return
			}
			<-held.Done()
			requireLost(t, held, relukko.LossUnreachable)
			require.LessOrEqual(t, h.renewals.Load(), int64(100))
			m.Unlock(held)
		})
	}
}

// TestEndlessRetryAfter requires that an endless Retry-After stops the requests, and delays the
// caller no longer than its own limit.
func TestEndlessRetryAfter(t *testing.T) {
	busy := func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "1000000000000000000")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	h := &hostile{create: busy}
	h.against(t, "a create", func(t *testing.T, m *relukko.Mutex) {
		_, err := m.Lock(t.Context())
		require.ErrorContains(t, err, "503")
		require.EqualValues(t, 1, h.creates.Load())
	})
	h = &hostile{create: busy}
	h.against(t, "a create with an endless back-off", func(t *testing.T, m *relukko.Mutex) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := m.Lock(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.LessOrEqual(t, h.creates.Load(), int64(100))
	}, relukko.WithBackOff(func() backoff.BackOff { return new(backoff.ZeroBackOff) }))
	h = &hostile{renew: busy}
	h.against(t, "a renewal", func(t *testing.T, m *relukko.Mutex) {
		held := lock(t, m)
		<-held.Done()
		requireLost(t, held, relukko.LossUnreachable)
		require.LessOrEqual(t, h.renewals.Load(), int64(20), "retries until the lease ends")
		m.Unlock(held)
	})
}

// TestFloodOfBroadcasts requires that an endless flood of broadcasts causes few requests.
func TestFloodOfBroadcasts(t *testing.T) {
	const deleted = `{"deleted":"950daa20-a814-451e-9407-ec496cf9c136"}`
	for _, push := range []string{
		`{"deleted":true}`, deleted, `{"deleted":[1,2,3]}`, `{"deleted":{"lock_name":"leg"}}`, "x",
	} {
		h := &hostile{push: push}
		h.against(t, push+" to a holder", func(t *testing.T, m *relukko.Mutex) {
			held := lock(t, m)
			time.Sleep(11 * time.Second)
			require.NoError(t, held.Err())
			require.LessOrEqual(t, h.renewals.Load(), int64(250))
			require.LessOrEqual(t, h.lists.Load(), int64(250))
			require.LessOrEqual(t, h.handshakes.Load(), int64(2))
			require.NoError(t, m.Unlock(held))
		})
	}
	for _, push := range []string{
		`{"deleted":true}`, `{"deleted":[1,2,3]}`, `{"deleted":{"lock_name":"leg"}}`,
		`{"created":true}`, `{"deleted":{"lock_name":"arm"}}`, deleted,
	} {
		h := &hostile{push: push, create: held409}
		h.against(t, push+" to a waiter", func(t *testing.T, m *relukko.Mutex) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := m.Lock(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.LessOrEqual(t, h.creates.Load(), int64(2600))
			require.LessOrEqual(t, h.lists.Load(), int64(250))
		})
	}
}

// TestBackendThatDoesNotWait has a backend, or a proxy in front of it, that announces waiting
// creates and responds immediately.
func TestBackendThatDoesNotWait(t *testing.T) {
	h := &hostile{create: func(w http.ResponseWriter) {
		w.Header().Set("Relukko-Wait", "30")
		held409(w)
	}}
	h.against(t, "409 to each create", func(t *testing.T, m *relukko.Mutex) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := m.Lock(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.LessOrEqual(t, h.creates.Load(), int64(60))
		require.LessOrEqual(t, h.lists.Load(), int64(60))
	})
}

// TestTheKeyStaysSecretFromReflection prints clients, mutexes and sessions by reflection, with all
// that they refer to.
func TestTheKeyStaysSecretFromReflection(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		m := relukko.NewMutex(c, "arm")
		held := lock(t, m)
		time.Sleep(90 * time.Second)
		other := relukko.NewMutex(s.Client(), "arm")
		failed, err := other.TryLock(t.Context())
		require.Error(t, err)
		synctest.Wait()
		for _, v := range []any{c, m, m.Locker(), held, session(t, held), other, failed, err} {
			requireNoKey(t, s, fmt.Sprintf("%v %+v %#v", v, v, v))
			requireNoKey(t, s, dumped(v))
		}
		require.NoError(t, m.Unlock(held))
	})
}

// dumped returns v as testify prints an unexpected value: with all that it points to, whatever
// methods it has.
func dumped(v any) string {
	var out reports
	assert.Equal(&out, v, nil)
	return string(out)
}

type reports []byte

func (r *reports) Errorf(format string, args ...any) { *r = fmt.Appendf(*r, format, args...) }

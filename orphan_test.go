package relukko_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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

func TestNoOrphans(t *testing.T) {
	for kind, setUp := range kinds {
		for _, trouble := range []struct {
			name  string
			calls int
			fault func(s *relukkotest.Server, rnd *rand.Rand)
		}{
			{"slow", 200, func(*relukkotest.Server, *rand.Rand) {}},
			{"replies cut", 500, func(s *relukkotest.Server, rnd *rand.Rand) {
				s.CutNext(1+rnd.IntN(2), create)
			}},
			{"restarts", 200, func(s *relukkotest.Server, rnd *rand.Rand) {
				s.Stop()
				s.Start(rnd.IntN(4) > 0)
			}},
			{"dark for a while", 200, func(s *relukkotest.Server, rnd *rand.Rand) {
				s.GoDark()
				time.Sleep(time.Duration(rnd.IntN(10)) * time.Second)
				s.ComeBack()
			}},
			{"unavailable", 200, func(s *relukkotest.Server, rnd *rand.Rand) {
				s.FailNext(1+rnd.IntN(5), 502)
			}},
		} {
			bubble(t, kind+"/"+trouble.name, func(t *testing.T, s *relukkotest.Server) {
				setUp(s)
				testNoOrphans(t, s, trouble.calls, trouble.fault)
			})
		}
	}
}

// testNoOrphans cancels calls at random instants, while the backend has faults, and requires that
// none of them leaves a lock.
func testNoOrphans(
	t *testing.T, s *relukkotest.Server, calls int, fault func(*relukkotest.Server, *rand.Rand),
) {
	rnd := rand.New(rand.NewPCG(3, 4))
	s.Latency(func(*http.Request) (before, after time.Duration) {
		return rand.N(100 * time.Millisecond), rand.N(100 * time.Millisecond)
	})
	clients := []*api.Client{s.Client(), s.Client(), s.Client()}
	var wg sync.WaitGroup
	for i := range calls {
		c, name := clients[i%len(clients)], fmt.Sprint("arm-", i%7)
		var m locker = relukko.NewMutex(c, name)
		if i%3 == 0 {
			m = relukko.NewMultiMutex(c, []string{name, fmt.Sprint("arm-", (i+3)%7)})
		}
		after := time.Duration(rnd.Int64N(int64(400 * time.Millisecond)))
		hold := time.Duration(rnd.IntN(100)) * time.Millisecond
		call := m.Lock
		if i%4 == 0 {
			call = m.TryLock
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			held, err := call(ctx)
			if late := time.Since(deadline(ctx)); err != nil && late > 0 {
				t.Errorf("returned %v after the context's end", late)
			}
			if err == nil {
				time.Sleep(hold)
				m.Unlock(held)
			}
		})
		if i%20 == 19 {
			fault(s, rnd)
			time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
		}
	}
	wg.Wait()
	for _, c := range clients {
		require.NoError(t, c.Shutdown(t.Context()))
	}
	require.Empty(t, names(s))
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

func TestNoOrphansOnLoopback(t *testing.T) {
	s := relukkotest.NewServer(t)
	c := s.Client()
	var wg sync.WaitGroup
	for i := range 10 {
		m := relukko.NewMutex(c, fmt.Sprint("arm-", i%5))
		wg.Go(func() {
			for j := range 40 {
				if j%10 == i%10 {
					s.DropWebSockets()
				}
				lockBriefly(t, m, rand.N(40*time.Millisecond))
			}
		})
	}
	wg.Wait()
	require.NoError(t, c.Shutdown(t.Context()))
	require.Empty(t, names(s))
}

// lockBriefly locks m with a time limit, and unlocks it. It requires that a Lock that fails returns
// soon after the limit; TestNoOrphans requires that it returns immediately.
func lockBriefly(t *testing.T, m *relukko.Mutex, limit time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ended := make(chan time.Time, 1) // when the end is seen on this machine, however busy
	context.AfterFunc(ctx, func() { ended <- time.Now() })
	held, err := m.Lock(ctx)
	if returned := time.Now(); err != nil {
		require.Less(t, returned.Sub(<-ended), 2*time.Second, "after the context's end")
		return
	}
	m.Unlock(held)
}

func TestNoOrphansWhenACancelledCreateTakesEffectLate(t *testing.T) {
	for kind, setUp := range kinds {
		for name, park := range map[string]func(*relukkotest.Server) *relukkotest.Hold{
			"request held": func(s *relukkotest.Server) *relukkotest.Hold {
				return s.Hold(create)
			},
			"reply held": func(s *relukkotest.Server) *relukkotest.Hold {
				return s.HoldReplies(create)
			},
		} {
			name := kind + ", " + name
			plainly(t, name, func(t *testing.T, s *relukkotest.Server) {
				setUp(s)
				c := s.Client()
				m := relukko.NewMutex(c, "arm")
				parked := park(s)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				_, err := m.Lock(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, time.Second, time.Since(start))
				time.Sleep(time.Second)
				parked.Release()
				require.NoError(t, c.Shutdown(t.Context()))
				synctest.Wait()
				require.Empty(t, s.Locks())
			})
		}
	}
}

func TestNoOrphansWhenTheConnectionBreaks(t *testing.T) {
	for kind, setUp := range kinds {
		for _, late := range []time.Duration{0, 500 * time.Millisecond, 3 * time.Second,
			time.Minute} {
			name := fmt.Sprint(kind, ", takes effect ", late, " later")
			plainly(t, name, func(t *testing.T, s *relukkotest.Server) {
				setUp(s)
				c := s.Client()
				parked := s.Hold(create)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := relukko.NewMutex(c, "arm").Lock(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				time.Sleep(time.Second)
				s.Cut()
				time.Sleep(late)
				parked.Release()
				require.NoError(t, c.Shutdown(t.Context()))
				synctest.Wait()
				require.Empty(t, s.Locks())
			})
		}
	}
}

func TestNoOrphansWhenAProxyAnswersTheCleanup(t *testing.T) {
	for kind, setUp := range kinds {
		plainly(t, kind, func(t *testing.T, s *relukkotest.Server) {
			setUp(s)
			c := s.Client()
			m := relukko.NewMutex(c, "arm")
			require.NoError(t, m.Unlock(lock(t, m)))
			parked := s.HoldReplies(create)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			time.AfterFunc(time.Second/2, func() {
				s.AnswerNext(-1, nil,
					relukkotest.Answer{Status: 404, Body: "<html>no such backend"})
			})
			_, err := m.Lock(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			s.Cut()
			parked.Release()
			time.Sleep(30 * time.Second)
			require.Len(t, s.Locks(), 1)
			s.Heal()
			require.NoError(t, c.Shutdown(t.Context()))
			require.Empty(t, s.Locks())
		})
	}
}

func TestNoOrphansWhenAProxyReplacesTheReply(t *testing.T) {
	for kind, setUp := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := relukkotest.NewServer(t, relukkotest.WithoutStream())
			setUp(s)
			backend, err := url.Parse(s.URL)
			require.NoError(t, err)
			proxy := httputil.NewSingleHostReverseProxy(backend)
			proxy.ModifyResponse = func(r *http.Response) error {
				if r.StatusCode == http.StatusCreated {
					r.Body.Close()
					r.Header.Del("Content-Length")
					r.ContentLength = -1
					r.Body = io.NopCloser(strings.NewReader("<html>Created!"))
				}
				return nil
			}
			front := httptest.NewServer(proxy)
			defer front.Close()
			c, err := api.New(front.URL, s.APIKey)
			require.NoError(t, err)
			_, err = relukko.NewMutex(c, "arm").Lock(t.Context())
			require.ErrorContains(t, err, "not a lock")
			require.NoError(t, c.Shutdown(t.Context()))
			require.Empty(t, s.Locks())
		})
	}
}

func TestNoOrphansWhenACreateTakesEffectAfterUnlock(t *testing.T) {
	for kind, setUp := range kinds {
		plainly(t, kind, func(t *testing.T, s *relukkotest.Server) {
			setUp(s)
			m := relukko.NewMutex(s.Client(), "arm")
			var first atomic.Bool
			parked := s.Hold(func(r *http.Request) bool {
				return create(r) && first.CompareAndSwap(false, true)
			})
			go func() {
				time.Sleep(time.Second)
				s.Cut() // the client gives up the first create, which is still in flight
			}()
			held := lock(t, m)
			require.NoError(t, m.Unlock(held))
			require.Equal(t, 1, parked.Parked())
			parked.Release()
			time.Sleep(10 * time.Second)
			require.Empty(t, s.Locks())
		})
	}
}

// TestNoOrphansWhenTheBackendIsReplaced replaces a backend that can cancel creates by one that
// cannot.
func TestNoOrphansWhenTheBackendIsReplaced(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		m := relukko.NewMutex(c, "arm")
		require.NoError(t, m.Unlock(lock(t, m))) // now the client knows the first one
		s.Latency(func(*http.Request) (before, after time.Duration) { return 0, time.Second })
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		time.AfterFunc(250*time.Millisecond, func() { original(s) })
		_, err := m.Lock(ctx)
		require.Error(t, err)
		require.Equal(t, []string{"arm"}, names(s))
		start := time.Now()
		require.NoError(t, c.Shutdown(t.Context()))
		require.Empty(t, names(s))
		require.Less(t, time.Since(start), time.Minute)
	})
}

package relukko_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// outages are the ways in which a backend becomes unavailable and available again.
var outages = []struct {
	name       string
	begin, end func(*relukkotest.Server)
}{
	{"dark", (*relukkotest.Server).GoDark, (*relukkotest.Server).ComeBack},
	{"stopped", (*relukkotest.Server).Stop, func(s *relukkotest.Server) { s.Start(true) }},
	{"unavailable", func(s *relukkotest.Server) {
		s.FailNext(-1, http.StatusServiceUnavailable)
	}, (*relukkotest.Server).Heal},
	{"Retry-After an hour", func(s *relukkotest.Server) {
		s.FailNext(-1, http.StatusTooManyRequests, "Retry-After", "3600")
	}, (*relukkotest.Server).Heal},
	{"connections cut after each request", func(s *relukkotest.Server) {
		s.CutNext(-1, nil)
	}, (*relukkotest.Server).Heal},
	{"responses held", func(s *relukkotest.Server) {
		s.HoldReplies(nil)
	}, (*relukkotest.Server).Heal},
	{"a proxy without a backend", func(s *relukkotest.Server) {
		s.AnswerNext(-1, nil,
			relukkotest.Answer{Status: http.StatusNotFound, Body: "<html>no such backend"})
	}, (*relukkotest.Server).Heal},
	{"a sign-in page", func(s *relukkotest.Server) {
		s.AnswerNext(-1, nil,
			relukkotest.Answer{Status: http.StatusOK, Body: "<html>Please sign in"})
	}, (*relukkotest.Server).Heal},
}

// runs returns how often to run outage n.
func runs(n int) int {
	if n == 0 {
		return 50
	}
	return 15
}

// expiresAt returns when the only lock expires on the backend.
func expiresAt(s *relukkotest.Server) time.Time { return s.Locks()[0].ExpiresAt }

// requireBeforeExpiry requires that the only lock has not expired on the backend.
func requireBeforeExpiry(t *testing.T, s *relukkotest.Server) {
	t.Helper()
	now, expires := time.Now(), expiresAt(s)
	require.True(t, now.Before(expires), "done at %v, expired at %v", now, expires)
}

func TestLossIsKnownBeforeExpiry(t *testing.T) {
	for n, outage := range outages {
		for i := range runs(n) {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			ttl := time.Duration(2+rnd.IntN(4)) * time.Second
			before := time.Duration(rnd.Int64N(int64(20 * time.Second)))
			name := fmt.Sprintf("%s/%v after %v", outage.name, ttl, before)
			plainly(t, name, func(t *testing.T, s *relukkotest.Server) {
				m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(ttl))
				held := lock(t, m)
				time.Sleep(before)
				require.NoError(t, held.Err())
				outage.begin(s)
				<-held.Done()
				requireBeforeExpiry(t, s)
				lost := requireLost(t, held, relukko.LossUnreachable)
				require.True(t, time.Now().Before(lost.Deadline))
				require.Equal(t, s.Locks()[0].ID, lost.ID)
				if before > 2*time.Second {
					require.Error(t, lost.Err)
				}
				outage.end(s)
				require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
			})
		}
	}
}

func TestLossIsKnownBeforeExpiryWhenResponsesAreSlow(t *testing.T) {
	for i := range 10 { // at any time between two renewals
		before := 30*time.Second + time.Duration(i)*333*time.Millisecond
		bubble(t, fmt.Sprint("after ", before), func(t *testing.T, s *relukkotest.Server) {
			m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(10*time.Second))
			held := lock(t, m)
			s.Latency(func(r *http.Request) (before, after time.Duration) {
				return 0, 1200 * time.Millisecond
			})
			time.Sleep(before)
			require.NoError(t, held.Err())
			s.GoDark()
			<-held.Done()
			requireBeforeExpiry(t, s)
			requireLost(t, held, relukko.LossUnreachable)
			s.Heal()
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		})
	}
}

func TestShortOutageLosesNothingWithHighLatency(t *testing.T) {
	bubble(t, "100 ms, TTL 1 s, round trip 100 ms", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(time.Second))
		held := lock(t, m)
		s.Latency(func(*http.Request) (before, after time.Duration) {
			return 50 * time.Millisecond, 50 * time.Millisecond
		})
		for i := range 40 {
			time.Sleep(time.Second + time.Duration(i)*10*time.Millisecond)
			s.Stop()
			time.Sleep(100 * time.Millisecond)
			s.Start(true)
			time.Sleep(time.Second)
			require.NoError(t, held.Err(), "outage %d: %v", i, context.Cause(held))
		}
		require.NoError(t, m.Unlock(held))
	})
}

func TestLossIsKnownBeforeExpiryOnLoopback(t *testing.T) {
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t, relukkotest.WithoutStream())
			m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(2*time.Second))
			held := lock(t, m)
			beats := make(chan struct{})
			s.Latency(func(r *http.Request) (before, after time.Duration) {
				if relukkotest.On("PUT", "/v1/locks/{id}/keep_alive")(r) {
					select {
					case beats <- struct{}{}:
					default:
					}
				}
				return 0, 0
			})
			<-beats
			<-beats
			s.GoDark()
			stalled := stalls()
			<-held.Done()
			done := time.Now()
			require.True(t, done.Before(expiresAt(s).Add(stalled())))
			requireLost(t, held, relukko.LossUnreachable)
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		})
	}
}

// stalls measures the longest time for which this process does not run, until stalled is called:
// the guarantee is for a process that runs.
func stalls() (stalled func() time.Duration) {
	const every = 5 * time.Millisecond
	longest, stop := make(chan time.Duration), make(chan struct{})
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		var most time.Duration
		for last := time.Now(); ; last = time.Now() {
			select {
			case <-ticker.C:
				most = max(most, time.Since(last)-every)
				continue
			case <-stop:
			}
			longest <- max(most, time.Since(last))
			return
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-longest
	}
}

func TestShortOutageLosesNothing(t *testing.T) {
	for n, outage := range outages {
		for i := range runs(n) {
			rnd := rand.New(rand.NewPCG(uint64(i), 2))
			ttl := time.Duration(1+rnd.IntN(5)) * time.Second
			before := time.Duration(rnd.Int64N(int64(10 * time.Second)))
			length := time.Duration(rnd.Int64N(int64(ttl/2-ttl/100))) + ttl/100
			if i < 5 {
				length = ttl/2 - time.Millisecond
			}
			name := fmt.Sprintf("%s/%v of %v after %v", outage.name, length, ttl, before)
			bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
				m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(ttl))
				held := lock(t, m)
				for range 3 {
					time.Sleep(before)
					outage.begin(s)
					time.Sleep(length)
					outage.end(s)
					time.Sleep(ttl)
					require.NoError(t, held.Err(), "%v", context.Cause(held))
				}
				require.NoError(t, m.Unlock(held))
				synctest.Wait()
				require.Empty(t, s.Locks())
			})
		}
	}
}

// TestShortOutageLosesNothingFromTheFirstInstant, be the lock free or waited for.
func TestShortOutageLosesNothingFromTheFirstInstant(t *testing.T) {
	for n, outage := range outages {
		for i := range runs(n) {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			ttl := time.Duration(1+rnd.IntN(40)) * time.Second
			waited := time.Duration(rnd.Int64N(int64(40 * time.Second)))
			before := time.Duration(rnd.Int64N(int64(1500 * time.Millisecond)))
			switch i % 3 {
			case 0:
				before = 0
			case 1:
				waited = 0
			}
			name := fmt.Sprintf("%s/of %v, %v after a wait of %v", outage.name, ttl, before, waited)
			bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
				m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(ttl))
				if waited > 0 {
					other := relukko.NewMutex(s.Client(), "arm")
					held := lock(t, other)
					time.AfterFunc(waited, func() { other.Unlock(held) })
				}
				held := lock(t, m)
				require.Less(t, time.Until(session(t, held).LeaseEnd()), ttl+time.Millisecond)
				time.Sleep(before)
				outage.begin(s)
				time.Sleep(ttl/2 - time.Millisecond)
				outage.end(s)
				time.Sleep(ttl)
				require.NoError(t, held.Err(), "%v", context.Cause(held))
				require.NoError(t, m.Unlock(held))
			})
		}
	}
}

func TestUnacknowledgedRenewalCanOnlyShortenTheLease(t *testing.T) {
	bubble(t, "outcome unknown", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(10*time.Second))
		held := lock(t, m)
		began := time.Now()
		require.Equal(t, began.Add(10*time.Minute), session(t, held).LeaseEnd().Round(0))
		s.HoldReplies(relukkotest.On("PUT", "/v1/locks/{id}/keep_alive"))
		time.Sleep(time.Second + time.Millisecond) // the first heartbeat was sent
		require.Less(t, session(t, held).LeaseEnd().Sub(began), 11*time.Second+time.Millisecond)
		<-held.Done()
		require.True(t, time.Now().Before(began.Add(11*time.Second)))
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
	})
	bubble(t, "not sent", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(10*time.Second))
		held := lock(t, m)
		s.Stop()
		time.Sleep(time.Minute)
		require.NoError(t, held.Err(), "the lease of 10 min is unchanged")
		s.Start(true)
		require.NoError(t, m.Unlock(held))
	})
}

func TestHeartbeatSchedule(t *testing.T) {
	for _, row := range []struct {
		ttl, hold time.Duration
		min, max  int
	}{
		{time.Minute, 900 * time.Millisecond, 0, 0},
		{time.Minute, 1100 * time.Millisecond, 1, 1},
		{time.Minute, 61 * time.Second, 4, 4},
		{time.Second, 300 * time.Millisecond, 0, 0},
		{3 * time.Second, 31 * time.Second, 31, 35},
		{time.Hour, 301 * time.Second, 11, 12},
	} {
		name := fmt.Sprintf("TTL %v held for %v", row.ttl, row.hold)
		plainly(t, name, func(t *testing.T, s *relukkotest.Server) {
			m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(row.ttl))
			held := lock(t, m)
			time.Sleep(row.hold)
			beats := s.Requests("PUT", "/v1/locks/{id}/keep_alive")
			require.GreaterOrEqual(t, beats, row.min)
			require.LessOrEqual(t, beats, row.max)
			if beats > 0 {
				require.LessOrEqual(t, time.Until(expiresAt(s)), row.ttl)
			}
			require.NoError(t, m.Unlock(held))
		})
	}
}

func TestRefusedRenewalEndsTheContext(t *testing.T) {
	for _, status := range []int{400, 401, 403, 405, 418, 302} {
		plainly(t, http.StatusText(status), func(t *testing.T, s *relukkotest.Server) {
			m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(10*time.Second))
			held := lock(t, m)
			time.Sleep(20 * time.Second)
			s.AnswerNext(-1, nil, relukkotest.Answer{Status: status})
			start := time.Now()
			<-held.Done()
			lost := requireLost(t, held, relukko.LossRefused)
			require.Less(t, time.Since(start), 4*time.Second, "at the next heartbeat")
			require.True(t, time.Now().Before(lost.Deadline), "the lease still runs")
			s.Heal()
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		})
	}
}

func TestHeldForAnHour(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		time.Sleep(time.Hour)
		require.NoError(t, held.Err())
		require.NoError(t, m.Unlock(held))
	})
}

func TestSuspendIsDetectedByTheWallClock(t *testing.T) {
	const ttl = 30 * time.Second
	for _, row := range []struct {
		name  string
		ahead time.Duration
		then  func(s *relukkotest.Server)
		lost  relukko.LossReason // 0: none
	}{
		{"the lock still exists", 20 * time.Second, func(*relukkotest.Server) {}, 0},
		{"the lock is gone", time.Hour, func(s *relukkotest.Server) {
			s.Delete("arm")
		}, relukko.LossDeleted},
		{"dark", 10 * time.Second, (*relukkotest.Server).GoDark, relukko.LossUnreachable},
	} {
		bubble(t, row.name, func(t *testing.T, s *relukkotest.Server) {
			s.RefuseWebSockets(true) // else an event would report the deletion
			c := s.Client()
			ahead := relukko.Skew(c)
			m := relukko.NewMutex(c, "arm", relukko.WithTTL(ttl))
			held := lock(t, m)
			time.Sleep(62 * time.Second)
			beats := s.Requests("PUT", "/v1/locks/{id}/keep_alive")
			ahead.Store(int64(row.ahead))
			row.then(s)
			if row.ahead > ttl {
				require.ErrorIs(t, session(t, held).Err(), relukko.ErrLockLost,
					"before any timer fires")
				row.lost = relukko.LossUnreachable
			}
			time.Sleep(2*time.Second + time.Millisecond)
			if row.lost != 0 {
				requireLost(t, held, row.lost)
				s.Heal()
				require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
				return
			}
			require.NoError(t, held.Err())
			require.Equal(t, beats+1, s.Requests("PUT", "/v1/locks/{id}/keep_alive"),
				"one renewal is enough")
			time.Sleep(time.Minute)
			require.NoError(t, m.Unlock(held))
		})
	}
}

func TestLocksOfOneClientShareOneWebSocket(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		var g errgroup.Group
		for i := range 100 {
			m := relukko.NewMutex(c, fmt.Sprint("arm-", i), relukko.WithTTL(3*time.Second))
			g.Go(func() error {
				return m.Do(t.Context(), func(ctx context.Context) error {
					time.Sleep(20 * time.Second)
					return context.Cause(ctx)
				})
			})
		}
		require.NoError(t, g.Wait())
		require.GreaterOrEqual(t, s.Requests("PUT", "/v1/locks/{id}/keep_alive"), 2000)
		require.Empty(t, s.Locks())
		require.Equal(t, 1, s.WebSockets())
	})
}

func TestSuspendBeforeTheFirstHeartbeatCountsOnEachClock(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		ahead := relukko.Skew(c)
		m := relukko.NewMutex(c, "arm")
		held := lock(t, m)
		start := time.Now()
		const suspended = 9*time.Minute + 30*time.Second
		ahead.Store(int64(suspended))
		s.HoldReplies(relukkotest.On("PUT", "/v1/locks/{id}/keep_alive"))
		<-held.Done()
		require.Less(t, time.Since(start)+suspended, 10*time.Minute,
			"before the lease of 10 min ends by the wall clock")
		s.Heal()
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
	})
}

// TestDeletionIsKnownFromTheFirstInstant, over the stream. Elsewhere it takes the first heartbeat.
func TestDeletionIsKnownFromTheFirstInstant(t *testing.T) {
	for name, row := range map[string]struct {
		opts []relukkotest.Option
		most time.Duration
	}{
		"stream":         {nil, 0},
		"plain requests": {[]relukkotest.Option{relukkotest.WithoutStream()}, time.Second},
	} {
		bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
			m := relukko.NewMutex(s.Client(), "arm")
			held := lock(t, m)
			deleted := time.Now()
			require.True(t, s.Delete("arm"))
			<-held.Done()
			require.LessOrEqual(t, time.Since(deleted), row.most)
			requireLost(t, held, relukko.LossDeleted)
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		}, row.opts...)
	}
}

func TestDeletionIsKnownWhileRenewalsPause(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(10*time.Minute))
		held := lock(t, m)
		time.Sleep(25 * time.Second)
		s.FailNext(1, http.StatusServiceUnavailable, "Retry-After", "120")
		time.Sleep(20 * time.Second) // the next heartbeat is due long after that
		s.Delete("arm")
		start := time.Now()
		<-held.Done()
		require.Less(t, time.Since(start), time.Second)
		requireLost(t, held, relukko.LossDeleted)
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
	})
}

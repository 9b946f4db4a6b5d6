package relukko_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// machine is the machine of a client. When it is suspended, its monotonic clock and its timers
// stop, while its wall clock and the backend go on. A bubble has only one clock, so a suspend for d
// sets the machine's wall clock forward by d, and makes the backend's locks d older.
type machine struct {
	ahead interface {
		Add(int64) int64
		Load() int64
	}
	s *relukkotest.Server
}

// suspend suspends the machine for d. The backend deletes locks that expire in this time, as it
// would with a grace of 0.
func (m machine) suspend(d time.Duration) {
	m.ahead.Add(int64(d))
	for _, l := range m.s.Locks() {
		if time.Until(l.ExpiresAt) <= d {
			m.s.Delete(l.Name)
		}
	}
}

const renewals = "/v1/locks/{id}/keep_alive"

// onMachine runs f in a bubble, with a mutex whose TTL is 30 s.
func onMachine(
	t *testing.T, name string, f func(t *testing.T, m machine, mutex *relukko.Mutex),
) {
	bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
		s.RefuseWebSockets(true) // else events would report deletions
		c := s.Client()
		m := machine{relukko.Skew(c), s}
		f(t, m, relukko.NewMutex(c, "arm", relukko.WithTTL(30*time.Second)))
	})
}

func TestLeaseIsRenewedWithinASecondOfWaking(t *testing.T) {
	for i := range 40 {
		rnd := rand.New(rand.NewPCG(uint64(i), 3))
		before := time.Duration(rnd.Int64N(int64(90 * time.Second)))
		asleep := time.Duration(rnd.Int64N(int64(40*time.Second))) + 300*time.Millisecond
		name := fmt.Sprintf("asleep for %v after %v", asleep, before)
		onMachine(t, name, func(t *testing.T, m machine, mutex *relukko.Mutex) {
			held := lock(t, mutex)
			time.Sleep(before)
			asked := m.s.Requests("PUT", renewals)
			deadline := session(t, held).LeaseEnd()
			m.suspend(asleep)
			if time.Until(deadline) <= asleep {
				require.ErrorIs(t, session(t, held).Err(), relukko.ErrLockLost, "immediately")
			}
			time.Sleep(time.Second + time.Millisecond)
			if held.Err() == nil {
				require.Greater(t, m.s.Requests("PUT", renewals), asked)
				require.NoError(t, session(t, held).Err())
				time.Sleep(time.Minute)
				require.NoError(t, mutex.Unlock(held))
				return
			}
			require.Greater(t, asleep, 15*time.Second, "no needless loss")
			require.ErrorIs(t, context.Cause(held), relukko.ErrLockLost)
			require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
		})
	}
}

func TestRepeatedSuspends(t *testing.T) {
	onMachine(t, "with renewals between", func(t *testing.T, m machine, mutex *relukko.Mutex) {
		held := lock(t, mutex)
		time.Sleep(5 * time.Second)
		for range 50 {
			m.suspend(15 * time.Second)
			time.Sleep(1100 * time.Millisecond) // awake just long enough for a renewal
			require.NoError(t, session(t, held).Err())
		}
		require.NoError(t, mutex.Unlock(held))
	})
	onMachine(t, "without renewals between", func(t *testing.T, m machine, mutex *relukko.Mutex) {
		held := lock(t, mutex)
		time.Sleep(5 * time.Second)
		h := m.s.Hold(relukkotest.On("PUT", renewals))
		for n := 0; session(t, held).Err() == nil; n++ {
			require.Less(t, n, 4)
			m.suspend(9 * time.Second)
			time.Sleep(200 * time.Millisecond)
		}
		h.Release()
		require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
	})
	onMachine(t, "too short to be detected", func(t *testing.T, m machine, mutex *relukko.Mutex) {
		held := lock(t, mutex)
		time.Sleep(5 * time.Second)
		m.s.GoDark()
		start := time.Now()
		for held.Err() == nil {
			m.suspend(240 * time.Millisecond) // in every second
			time.Sleep(time.Second)
			require.True(t, held.Err() != nil || time.Since(start)*124/100 < 30*time.Second,
				"they add up")
		}
		m.s.Heal()
		require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
	})
}

func TestSuspendDuringARenewal(t *testing.T) {
	onMachine(t, "without a response", func(t *testing.T, m machine, mutex *relukko.Mutex) {
		held := lock(t, mutex)
		time.Sleep(5 * time.Second)
		m.s.HoldReplies(relukkotest.On("PUT", renewals))
		time.Sleep(6500 * time.Millisecond)
		m.suspend(time.Second)
		asked := m.s.Requests("PUT", renewals)
		time.Sleep(time.Second + time.Millisecond)
		require.Greater(t, m.s.Requests("PUT", renewals), asked,
			"the response to an earlier renewal is not awaited")
		time.Sleep(time.Second)
		requireLost(t, held, relukko.LossUnreachable)
		m.s.Heal()
		require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
	})
	for _, asleep := range []time.Duration{time.Second, 10 * time.Second, time.Hour} {
		name := fmt.Sprint("request in flight for ", asleep)
		onMachine(t, name, func(t *testing.T, m machine, mutex *relukko.Mutex) {
			held := lock(t, mutex)
			time.Sleep(5 * time.Second)
			h := m.s.Hold(relukkotest.On("PUT", renewals))
			time.Sleep(6500 * time.Millisecond) // the renewal is in flight
			m.suspend(asleep)
			h.Release()
			time.Sleep(2 * time.Second)
			if asleep > 10*time.Second {
				require.ErrorIs(t, context.Cause(held), relukko.ErrLockLost)
				require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
				return
			}
			require.NoError(t, session(t, held).Err())
			require.NoError(t, mutex.Unlock(held))
		})
		name = fmt.Sprint("response in flight for ", asleep)
		onMachine(t, name, func(t *testing.T, m machine, mutex *relukko.Mutex) {
			held := lock(t, mutex)
			time.Sleep(5 * time.Second)
			h := m.s.HoldReplies(relukkotest.On("PUT", renewals))
			time.Sleep(6500 * time.Millisecond)
			m.suspend(asleep)
			h.Release()
			if asleep > 30*time.Second {
				require.ErrorIs(t, session(t, held).Err(), relukko.ErrLockLost)
				time.Sleep(time.Second)
				require.ErrorIs(t, session(t, held).Err(), relukko.ErrLockLost,
					"the late response changes nothing")
				require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
				return
			}
			time.Sleep(2 * time.Second)
			require.NoError(t, session(t, held).Err())
			require.NoError(t, mutex.Unlock(held))
		})
	}
}

func TestSuspendWhileWaiting(t *testing.T) {
	onMachine(t, "for a held lock", func(t *testing.T, m machine, mutex *relukko.Mutex) {
		other := relukko.NewMutex(m.s.Client(), "arm")
		held := lock(t, other)
		done := make(chan context.Context, 1)
		go func() {
			got, err := mutex.Lock(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- got
		}()
		time.Sleep(3 * time.Second)
		m.ahead.Add(int64(time.Hour))
		time.Sleep(3 * time.Second)
		require.NoError(t, other.Unlock(held), "its machine was not suspended")
		start := time.Now()
		got := <-done
		require.Less(t, time.Since(start), 10*time.Second)
		require.NoError(t, session(t, got).Err())
		require.NoError(t, mutex.Unlock(got))
	})
	for _, asleep := range []time.Duration{time.Minute, time.Hour} {
		name := fmt.Sprint("for the response to a create, for ", asleep)
		onMachine(t, name, func(t *testing.T, m machine, mutex *relukko.Mutex) {
			h := m.s.HoldReplies(relukkotest.On("POST", "/v1/locks/"))
			done := make(chan context.Context, 1)
			go func() {
				got, err := mutex.Lock(t.Context())
				if err != nil {
					t.Error(err)
				}
				done <- got
			}()
			time.Sleep(time.Second)
			stale := m.s.Locks()[0].ID
			m.suspend(asleep)
			h.Release()
			got := <-done
			require.NoError(t, session(t, got).Err())
			require.Equal(t, asleep == time.Minute, session(t, got).Info().ID == stale,
				"an expired lease is not used")
			require.NoError(t, mutex.Unlock(got))
			synctest.Wait()
			require.Empty(t, m.s.Locks())
		})
	}
}

func TestSuspendDuringUnlock(t *testing.T) {
	for _, asleep := range []time.Duration{time.Second, time.Hour} {
		name := fmt.Sprint("request in flight for ", asleep)
		onMachine(t, name, func(t *testing.T, m machine, mutex *relukko.Mutex) {
			held := lock(t, mutex)
			time.Sleep(5 * time.Second)
			h := m.s.Hold(relukkotest.On("DELETE", "/v1/locks/"))
			done := make(chan error, 1)
			go func() { done <- mutex.Unlock(held) }()
			time.Sleep(time.Second)
			m.suspend(asleep)
			h.Release()
			err := <-done
			if asleep == time.Second {
				require.NoError(t, err)
			} else {
				var lost *relukko.LostError
				require.True(t, errors.As(err, &lost), "gone before the delete: %v", err)
				require.Equal(t, relukko.LossDeleted, lost.Reason)
			}
			require.Empty(t, m.s.Locks())
		})
		name = fmt.Sprint("just before it, for ", asleep)
		onMachine(t, name, func(t *testing.T, m machine, mutex *relukko.Mutex) {
			held := lock(t, mutex)
			time.Sleep(5 * time.Second)
			m.suspend(asleep)
			err := mutex.Unlock(held)
			require.Equal(t, asleep == time.Hour, errors.Is(err, relukko.ErrLockLost), "%v", err)
			synctest.Wait()
			require.Empty(t, m.s.Locks())
		})
	}
}

// TestWallClockStep requires that a step forward of the wall clock counts as a suspend, which
// looks the same, and that a step back has no effect.
func TestWallClockStep(t *testing.T) {
	for _, row := range []struct {
		by   time.Duration
		asks bool // a renewal is sent within a second
		lost bool
	}{
		{by: time.Millisecond},
		{by: 200 * time.Millisecond},
		{by: 300 * time.Millisecond, asks: true},
		{by: 5 * time.Second, asks: true},
		{by: time.Hour, lost: true},
		{by: 100 * 365 * 24 * time.Hour, lost: true},
		{by: -time.Millisecond},
		{by: -time.Second},
		{by: -time.Hour},
		{by: -50 * 365 * 24 * time.Hour},
	} {
		name := fmt.Sprint("by ", row.by)
		onMachine(t, name, func(t *testing.T, m machine, mutex *relukko.Mutex) {
			held := lock(t, mutex)
			time.Sleep(1500 * time.Millisecond)
			asked := m.s.Requests("PUT", renewals)
			m.ahead.Add(int64(row.by))
			time.Sleep(1001 * time.Millisecond)
			if row.lost {
				requireLost(t, held, relukko.LossUnreachable)
				require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
				return
			}
			require.Equal(t, row.asks, m.s.Requests("PUT", renewals) > asked)
			time.Sleep(time.Hour)
			require.NoError(t, session(t, held).Err())
			m.s.GoDark()
			<-held.Done()
			requireBeforeExpiry(t, m.s)
			m.s.Heal()
			require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
		})
	}
	onMachine(t, "back, then a suspend", func(t *testing.T, m machine, mutex *relukko.Mutex) {
		held := lock(t, mutex)
		time.Sleep(70 * time.Second)
		m.ahead.Add(-int64(time.Hour))
		time.Sleep(1500 * time.Millisecond)
		m.suspend(10 * time.Minute)
		time.Sleep(1001 * time.Millisecond)
		requireLost(t, held, relukko.LossDeleted)
		require.ErrorIs(t, mutex.Unlock(held), relukko.ErrLockLost)
	})
}

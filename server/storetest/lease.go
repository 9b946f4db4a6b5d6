package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// createLeased makes a leased lock.
func (s tested) createLeased(name string, lease time.Duration) store.Lock {
	s.t.Helper()
	in := newLock(name)
	in.TTL, in.Leased = lease, true
	lock := s.create(in)
	require.Equal(s.t, lease, lock.ExpiresAt.Sub(lock.CreatedAt))
	return lock
}

// steady returns the limits of a server that has seen no step of the clock for d.
func (s tested) steady(d time.Duration) store.Limits {
	return store.Limits{Grace: time.Hour, Latest: time.Now().AddDate(100, 0, 0), Steady: d}
}

// requireKept requires that the lock is there, and that the next sweep is due in time.
func (s tested) requireKept(lock store.Lock, limits store.Limits) {
	s.t.Helper()
	swept, err := s.Sweep(s.t.Context(), limits)
	require.NoError(s.t, err)
	require.Empty(s.t, swept.Locks)
	require.Positive(s.t, swept.Next)
	require.LessOrEqual(s.t, swept.Next, lock.ExpiresAt.Add(10*time.Second).Sub(swept.Now))
}

// sweptAt sweeps until the lock is swept, which must be grace after its expiry.
func (s tested) sweptAt(lock store.Lock, limits store.Limits, grace time.Duration) {
	s.t.Helper()
	for {
		swept, err := s.Sweep(s.t.Context(), limits)
		require.NoError(s.t, err)
		if len(swept.Locks) > 0 {
			require.Equal(s.t, []store.Lock{lock}, swept.Locks)
			require.GreaterOrEqual(s.t, swept.Now.Sub(lock.ExpiresAt), grace)
			return
		}
		// A store may read Now just after it has looked.
		require.Less(s.t, swept.Now.Sub(lock.ExpiresAt), grace+10*time.Millisecond)
		<-time.After(min(swept.Next, 20*time.Millisecond))
	}
}

func aLeasedLockHasItsOwnGrace(t *testing.T, s tested) {
	plain := s.create(newLock("plain"))
	s.expire(plain.ID, time.Minute)
	lock := s.createLeased("leased", 20*time.Millisecond)
	s.requireKept(lock, s.steady(time.Hour)) // for at least 1 s
	s.sweptAt(lock, s.steady(time.Hour), time.Second)
	s.requireGone(lock)
	_, err := s.Get(t.Context(), plain.ID)
	require.NoError(t, err, "it has the grace of the server")
}

// theLeaseSetLastCounts: by which means it was set does not matter.
func theLeaseSetLastCounts(t *testing.T, s tested) {
	for name, change := range map[string]func(store.Lock) store.Change{
		"renewed": func(store.Lock) store.Change {
			return store.Change{Lease: ptr(15 * time.Millisecond)}
		},
		"set": func(l store.Lock) store.Change {
			return store.Change{ExpiresAt: ptr(l.CreatedAt.Add(15 * time.Millisecond))}
		},
		"shortened": func(store.Lock) store.Change {
			return store.Change{Extend: 15*time.Millisecond - time.Hour}
		},
	} {
		lock := s.createLeased(name, time.Hour) // which has 10 s of grace
		lock = s.update(lock.ID, change(lock))
		s.sweptAt(lock, s.steady(time.Hour), time.Second)
	}
}

// aRenewalKeepsItLeased, and a change of the creator alone leaves the lease as it is.
func aRenewalKeepsItLeased(t *testing.T, s tested) {
	lock := s.createLeased("robot-arm-1", time.Hour)
	s.update(lock.ID, store.Change{Lease: ptr(20 * time.Millisecond)})
	<-time.After(30 * time.Millisecond)
	lock = s.update(lock.ID, store.Change{Creator: ptr("bench-7")})
	<-time.After(time.Second)
	s.requireKept(lock, s.steady(20*time.Millisecond-time.Microsecond)) // it is not negative
	s.sweptAt(lock, s.steady(20*time.Millisecond), time.Second)
}

// nothingLeasedIsSweptAfterAStep of the store's clock, for one lease.
func nothingLeasedIsSweptAfterAStep(t *testing.T, s tested) {
	short := s.createLeased("short", 20*time.Millisecond)
	long := s.createLeased("long", 30*time.Millisecond)
	plain := s.create(newLock("plain"))
	plain = s.expire(plain.ID, 2*time.Hour)
	<-time.After(1100 * time.Millisecond)

	swept, err := s.Sweep(t.Context(), store.Limits{Grace: time.Hour, Steady: time.Hour})
	require.NoError(t, err)
	require.Equal(t, []store.Lock{plain}, swept.Locks, "the clock shows more than the latest")
	limits := s.steady(20*time.Millisecond - time.Microsecond)
	locks, next := s.sweepWithin(limits)
	require.Empty(t, locks)
	require.LessOrEqual(t, next, time.Second)
	limits.Steady += time.Microsecond
	locks, _ = s.sweepWithin(limits)
	require.Equal(t, []store.Lock{short}, locks)
	limits.Steady = 30 * time.Millisecond
	locks, _ = s.sweepWithin(limits)
	require.Equal(t, []store.Lock{long}, locks)
}

func aLeaseInThePastNeedsNoStep(t *testing.T, s tested) {
	lock := s.createLeased("robot-arm-1", time.Hour)
	lock = s.expire(lock.ID, 2*time.Second)
	locks, _ := s.sweepWithin(store.Limits{Grace: time.Hour})
	require.Equal(t, []store.Lock{lock}, locks)
}

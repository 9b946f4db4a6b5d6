package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// sweepAll sweeps until the store says that nothing is due any more. Leased locks stay.
func (s tested) sweepAll(grace time.Duration) (all []store.Lock, next time.Duration) {
	s.t.Helper()
	return s.sweepWithin(store.Limits{Grace: grace})
}

// sweepWithin is sweepAll with all the limits.
func (s tested) sweepWithin(limits store.Limits) (all []store.Lock, next time.Duration) {
	s.t.Helper()
	for range 1000 {
		swept, err := s.Sweep(s.t.Context(), limits)
		require.NoError(s.t, err)
		all = append(all, swept.Locks...)
		if swept.Next > 0 {
			return all, swept.Next
		}
	}
	s.t.Fatal("the sweep never ends")
	return nil, 0
}

func sweepTakesWhatExpiredLongEnoughAgo(t *testing.T, s tested) {
	var locks []store.Lock
	for i := range 4 {
		locks = append(locks, s.create(newLock(fmt.Sprint("lock ", i))))
	}
	old := s.expire(locks[0].ID, time.Hour)
	s.expire(locks[1].ID, time.Minute)
	s.expire(locks[2].ID, -time.Minute)

	swept, _ := s.sweepAll(3 * time.Minute)
	require.Equal(t, []store.Lock{old}, swept, "answered as it was")
	s.requireGone(old)
	for _, lock := range locks[1:] {
		_, err := s.Get(t.Context(), lock.ID)
		require.NoError(t, err)
	}
	renewed := s.update(locks[1].ID, store.Change{Lease: ptr(time.Minute)})
	swept, _ = s.sweepAll(0)
	require.Empty(t, swept, "renewed in its grace")
	s.expire(renewed.ID, 0)
	swept, _ = s.sweepAll(0)
	require.Len(t, swept, 1)
	require.Equal(t, renewed.ID, swept[0].ID)
	s.create(newLock(renewed.Name))
}

func sweepSaysWhenToComeAgain(t *testing.T, s tested) {
	_, next := s.sweepAll(0)
	require.Positive(t, next)

	lock := s.create(newLock("robot-arm-1"))
	_, next = s.sweepAll(time.Minute)
	require.LessOrEqual(t, next, 11*time.Minute)

	s.update(lock.ID, store.Change{Lease: ptr(time.Minute)})
	_, next = s.sweepAll(0)
	require.LessOrEqual(t, next, time.Minute)
}

func sweepTakesAllInTheEnd(t *testing.T, s tested) {
	const n = 600 // more than one sweep takes
	for i := range n {
		lock := s.create(newLock(fmt.Sprint("lock ", i)))
		s.expire(lock.ID, time.Hour)
	}
	swept, _ := s.sweepAll(time.Minute)
	require.Len(t, swept, n)
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, locks)
}

// theStoreOutlivesItsCallers: Watch ends with its context, and leaves out what was done through the
// store.
func theStoreOutlivesItsCallers(t *testing.T, s tested) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	heard := make(chan store.Event, 100)
	go func() { ended <- s.Watch(ctx, func(e store.Event) { heard <- e }) }()
	s.delete(s.create(newLock("robot-arm-1")).ID)
	cancel()
	<-ended
	s.delete(s.create(newLock("robot-arm-1")).ID)
	close(heard)
	for e := range heard {
		require.Equal(t, store.EventMissed, e.Kind)
	}
}

func pingReturns(t *testing.T, s tested) {
	require.NoError(t, s.Ping(t.Context()))
}

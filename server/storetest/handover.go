package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// queuedLock is the lock robot-arm-1, to be created for a waiter.
func queuedLock() store.NewLock {
	in := newLock("robot-arm-1")
	in.TTL, in.Waited = time.Minute, 2*time.Second
	return in
}

func (s tested) handOver(id string, next store.NewLock) store.Handover {
	s.t.Helper()
	both, err := s.HandOver(s.t.Context(), id, store.Ending{}, next)
	require.NoError(s.t, err)
	return both
}

func (s tested) requireOnly(want ...store.Lock) {
	s.t.Helper()
	locks, err := s.List(s.t.Context())
	require.NoError(s.t, err)
	require.Equal(s.t, append([]store.Lock{}, want...), locks)
	for _, lock := range want {
		for _, read := range []func() (store.Lock, error){
			func() (store.Lock, error) { return s.Holder(s.t.Context(), lock.Name) },
			func() (store.Lock, error) { return s.Get(s.t.Context(), lock.ID) },
		} {
			got, err := read()
			require.NoError(s.t, err)
			require.Equal(s.t, lock, got)
		}
	}
}

func handOverDeletesAndCreates(t *testing.T, s tested) {
	other := s.create(newLock("robot-arm-2"))
	held := s.create(newLock("robot-arm-1"))
	for i := range 10 {
		held = s.update(held.ID, store.Change{Creator: ptr("renamed")})
		next := queuedLock()
		next.Creator, next.Mark = ptr("bench-7 #"+mark), mark
		both := s.handOver(held.ID, next)
		require.NoError(t, both.DeleteErr)
		require.NoError(t, both.CreateErr)
		require.Equal(t, held, both.Deleted, "as it was")
		got := both.Created
		require.Equal(t, next.ID, got.ID)
		require.Equal(t, next.Creator, got.Creator)
		require.Equal(t, time.Minute, got.ExpiresAt.Sub(got.CreatedAt))
		require.Equal(t, got.CreatedAt, got.UpdatedAt)
		require.Greater(t, got.FencingToken, held.FencingToken, "round %d", i)
		_, err := s.Get(t.Context(), held.ID)
		require.ErrorIs(t, err, store.ErrGone)
		held = got
		s.requireOnly(other, held)
	}
	require.Equal(t, []store.Lock{held}, s.cancel(mark), "its mark stays with it")
}

func handOverOfALockThatIsGone(t *testing.T, s tested) {
	gone := s.create(newLock("robot-arm-1"))
	s.delete(gone.ID)
	both := s.handOver(gone.ID, queuedLock())
	require.Equal(t, store.ErrGone, both.DeleteErr)
	require.Zero(t, both.Deleted)
	require.NoError(t, both.CreateErr, "the name is free")
	s.requireOnly(both.Created)

	holder := both.Created
	both = s.handOver(gone.ID, queuedLock())
	require.Equal(t, store.ErrGone, both.DeleteErr)
	require.Equal(t, store.ErrHeld, both.CreateErr, "by another")
	require.Equal(t, holder, both.Created)
	s.requireOnly(holder)
}

func handOverToACancelledMark(t *testing.T, s tested) {
	held := s.create(newLock("robot-arm-1"))
	next := queuedLock()
	next.Mark = mark
	s.cancel(mark)
	both := s.handOver(held.ID, next)
	require.NoError(t, both.DeleteErr)
	require.Equal(t, held, both.Deleted)
	require.Equal(t, store.ErrCancelled, both.CreateErr)
	require.Zero(t, both.Created)
	s.requireOnly()
	s.create(newLock("robot-arm-1"))
}

// handOverAskedForTwice: who does not know whether it came about finds the lock that it made.
func handOverAskedForTwice(t *testing.T, s tested) {
	held := s.create(newLock("robot-arm-1"))
	next := queuedLock()
	made := s.handOver(held.ID, next).Created
	both := s.handOver(held.ID, next)
	require.Equal(t, store.ErrGone, both.DeleteErr)
	require.Equal(t, store.ErrHeld, both.CreateErr)
	require.Equal(t, made, both.Created)
	holder, err := s.Create(t.Context(), next)
	require.ErrorIs(t, err, store.ErrHeld)
	require.Equal(t, made, holder)
	s.requireOnly(made)
}

func twoHandOversRace(t *testing.T, s tested) {
	for round := range 20 {
		held := s.create(newLock("robot-arm-1"))
		var results [8]store.Handover
		concurrently(len(results), func(i int) {
			var err error
			if results[i], err = s.HandOver(
				context.Background(), held.ID, store.Ending{},
				queuedLock()); err != nil {
				t.Error(err)
			}
		})
		var winner store.Lock
		for _, r := range results {
			if r.DeleteErr == nil {
				require.NoError(t, r.CreateErr)
				require.Zero(t, winner, "round %d: two have deleted it", round)
				winner = r.Created
			}
		}
		for _, r := range results {
			if r.DeleteErr != nil {
				require.Equal(t, store.Handover{DeleteErr: store.ErrGone, CreateErr: store.ErrHeld,
					Created: winner}, r)
			}
		}
		s.requireOnly(winner)
		s.delete(winner.ID)
	}
}

// nobodyComesBetween: others try all the time, and never find the name free.
func nobodyComesBetween(t *testing.T, s tested) {
	held := s.create(newLock("robot-arm-1"))
	var done atomic.Bool
	concurrently(4, func(i int) {
		if i > 0 {
			for !done.Load() {
				if _, err := s.Create(context.Background(), newLock("robot-arm-1")); !errors.Is(
					err, store.ErrHeld) {
					t.Errorf("the name was free: %v", err)
				}
				if _, err := s.Holder(context.Background(), "robot-arm-1"); err != nil {
					t.Errorf("nobody held it: %v", err)
				}
			}
			return
		}
		defer done.Store(true)
		for range 50 {
			both, err := s.HandOver(
				context.Background(), held.ID, store.Ending{}, queuedLock())
			if err != nil || both.DeleteErr != nil || both.CreateErr != nil ||
				both.Created.FencingToken <= held.FencingToken {
				t.Errorf("%v %+v", err, both)
				return
			}
			held = both.Created
		}
	})
	s.requireOnly(held)
}

// handOverAndSweepAtOnce: one of them takes the expired lock, and the next one has the name.
func handOverAndSweepAtOnce(t *testing.T, s tested) {
	for range 20 {
		expired := s.create(newLock("robot-arm-1"))
		expired = s.expire(expired.ID, time.Hour)
		var both store.Handover
		var swept []store.Lock
		concurrently(2, func(i int) {
			var err error
			if i == 0 {
				both, err = s.HandOver(
					context.Background(), expired.ID, store.Ending{}, queuedLock())
			} else {
				var all store.Swept
				all, err = s.Sweep(context.Background(), store.Limits{Grace: time.Minute})
				swept = all.Locks
			}
			if err != nil {
				t.Error(err)
			}
		})
		require.NoError(t, both.CreateErr)
		if both.DeleteErr == nil {
			require.Equal(t, expired, both.Deleted)
			require.Empty(t, swept)
		} else {
			require.Equal(t, []store.Lock{expired}, swept)
		}
		s.requireOnly(both.Created)
		s.delete(both.Created.ID)
	}
}

func handOverAndDeleteAtOnce(t *testing.T, s tested) {
	for range 20 {
		held := s.create(newLock("robot-arm-1"))
		var both store.Handover
		var deleteErr error
		concurrently(2, func(i int) {
			if i == 1 {
				_, deleteErr = s.Delete(context.Background(), held.ID, store.Ending{})
				return
			}
			var err error
			if both, err = s.HandOver(
				context.Background(), held.ID, store.Ending{},
				queuedLock()); err != nil {
				t.Error(err)
			}
		})
		require.NotEqual(t, deleteErr == nil, both.DeleteErr == nil, "one has deleted it: %v, %v",
			deleteErr, both.DeleteErr)
		require.NoError(t, both.CreateErr)
		s.requireOnly(both.Created)
		s.delete(both.Created.ID)
	}
}

// handOverAndCancelAtOnce: whichever comes first, no lock is left that bears the mark, and neither
// waits for the other for ever.
func handOverAndCancelAtOnce(t *testing.T, s tested, last, next bool) {
	for round := range 30 {
		mark := fmt.Sprint("mark-", round)
		before, after := newLock("robot-arm-1"), queuedLock()
		if last {
			before.Mark = mark
		}
		if next {
			after.Mark = mark
		}
		held := s.create(before)
		var both store.Handover
		var cancelled []store.Lock
		concurrently(2, func(i int) {
			var err error
			if i == 0 {
				both, err = s.HandOver(context.Background(), held.ID, store.Ending{}, after)
			} else {
				cancelled, err = s.Cancel(context.Background(), owner, mark)
			}
			if err != nil {
				t.Error(err)
			}
		})
		deleted := len(cancelled) > 0 && cancelled[0].ID == held.ID
		require.Equal(t, last && deleted, both.DeleteErr != nil,
			"deleted once: %+v %+v", cancelled, both)
		if next {
			s.requireOnly()
			continue
		}
		require.NoError(t, both.CreateErr)
		s.requireOnly(both.Created)
		s.delete(both.Created.ID)
	}
}

// handOverIsNoNews to the one who did it.
func handOverIsNoNews(t *testing.T, s tested) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	heard := make(chan store.Event, 100)
	go func() { ended <- s.Watch(ctx, func(e store.Event) { heard <- e }) }()
	held := s.create(newLock("robot-arm-1"))
	s.handOver(held.ID, queuedLock())
	cancel()
	<-ended
	close(heard)
	for e := range heard {
		require.Equal(t, store.EventMissed, e.Kind)
	}
}

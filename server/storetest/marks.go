package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// claimed is markedLock with that claim.
func claimed(name, mark string, claim uint64) store.NewLock {
	in := markedLock(name, mark)
	in.Claim = claim
	return in
}

func (s tested) claim(mark string) (claim uint64, locks []store.Lock) {
	s.t.Helper()
	claim, locks, err := s.Claim(s.t.Context(), owner, mark)
	require.NoError(s.t, err)
	return claim, locks
}

// requireRefused requires that a create returns the error and has no effect, whether the name is
// free or held, and also as a part of a hand-over.
func (s tested) requireRefused(want error, in store.NewLock) {
	s.t.Helper()
	held := s.create(newLock("held"))
	for _, name := range []string{"free", "held"} {
		in.ID, in.Name = newID(), name
		lock, err := s.Create(s.t.Context(), in)
		require.ErrorIs(s.t, err, want, name)
		require.Zero(s.t, lock)
	}
	other := in
	other.ID, other.Name = newID(), "other"
	_, err := s.CreateAll(s.t.Context(), []store.NewLock{other, in})
	require.ErrorIs(s.t, err, want)
	for _, name := range []string{"free", "other"} {
		_, err = s.Holder(s.t.Context(), name)
		require.ErrorIs(s.t, err, store.ErrGone)
	}
	both := s.handOver(held.ID, in)
	require.Equal(s.t, store.Handover{Deleted: held, CreateErr: want}, both)
	s.requireGone(held)
}

func cancelDeletesAndRefuses(t *testing.T, s tested) {
	kept := s.create(markedLock("robot-arm-2", "other"))
	unmarked := s.create(newLock("robot-arm-3"))
	lock := s.create(markedLock("robot-arm-1", mark))
	lock = s.update(lock.ID, store.Change{Creator: ptr("renamed")})

	require.Equal(t, []store.Lock{lock}, s.cancel(mark),
		"returned as it was, also when its creator was changed")
	s.requireGone(lock)
	require.Empty(t, s.cancel(mark), "again")

	s.requireRefused(store.ErrCancelled, markedLock("", mark))
	claim, locks, err := s.Claim(t.Context(), owner, mark)
	require.ErrorIs(t, err, store.ErrCancelled)
	require.Zero(t, claim)
	require.Empty(t, locks)

	s.create(markedLock("robot-arm-1", "K3V5X2M4Q7AB")) // marks are exact
	for _, want := range []store.Lock{kept, unmarked} {
		got, err := s.Get(t.Context(), want.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// aCancelledClaimIsCancelled: whatever its claim is, the create returns ErrCancelled.
func aCancelledClaimIsCancelled(t *testing.T, s tested) {
	first, _ := s.claim(mark)
	second, _ := s.claim(mark)
	s.cancel(mark)
	for _, claim := range []uint64{0, first, second} {
		s.requireRefused(store.ErrCancelled, claimed("", mark, claim))
	}
}

func marksBelongToTheirOwners(t *testing.T, s tested) {
	ofOther := func(name string) store.NewLock {
		in := markedLock(name, mark)
		in.Owner = "other"
		return in
	}
	mine := s.create(markedLock("robot-arm-1", mark))
	others := s.create(ofOther("robot-arm-2"))
	require.Equal(t, owner, mine.Owner)
	require.Equal(t, "other", others.Owner)

	_, locks := s.claim(mark)
	require.Equal(t, []store.Lock{mine}, locks)
	s.create(ofOther("robot-arm-3")) // another mark is claimed
	s.requireRefused(store.ErrSuperseded, markedLock("", mark))

	require.Equal(t, []store.Lock{mine}, s.cancel(mark))
	got, err := s.Get(t.Context(), others.ID)
	require.NoError(t, err)
	require.Equal(t, others, got)
	s.create(ofOther("robot-arm-4"))
	_, locks, err = s.Claim(t.Context(), "other", mark)
	require.NoError(t, err)
	require.Len(t, locks, 3)
	_, err = s.Cancel(t.Context(), "other", mark)
	require.NoError(t, err)
	s.requireOnly()
}

func claimsRiseAndFindLocks(t *testing.T, s tested) {
	first, locks := s.claim(mark)
	require.Positive(t, first)
	require.Empty(t, locks)
	s.claim("other")
	second, _ := s.claim(mark)
	require.Greater(t, second, first)

	lock := s.create(claimed("robot-arm-1", mark, second))
	lock = s.update(lock.ID, store.Change{Creator: ptr("renamed")})
	third, locks := s.claim(mark)
	require.Greater(t, third, second)
	require.Equal(t, []store.Lock{lock}, locks, "as it is, also when its creator was changed")
	s.requireOnly(lock)

	lock = s.handOver(lock.ID, claimed("robot-arm-1", mark, third)).Created
	_, locks = s.claim(mark)
	require.Equal(t, []store.Lock{lock}, locks)
	s.delete(lock.ID)
	_, locks = s.claim(mark)
	require.Empty(t, locks)
}

func anOlderClaimIsRefused(t *testing.T, s tested) {
	first, _ := s.claim(mark)
	s.requireRefused(store.ErrSuperseded, markedLock("", mark))
	second, _ := s.claim(mark)
	s.requireRefused(store.ErrSuperseded, claimed("", mark, first))
	s.requireRefused(store.ErrSuperseded, markedLock("", mark))
	s.delete(s.create(claimed("robot-arm-1", mark, second)).ID)
	s.create(claimed("robot-arm-1", mark, second)) // a claim is good for several creates
	s.create(markedLock("robot-arm-2", "other"))
	s.create(newLock("robot-arm-3"))
}

// claimAndCreateAtOnce: either the claim finds the lock, or the create has no effect. The mark was
// claimed before, or not.
func claimAndCreateAtOnce(t *testing.T, s tested, before, handOver bool) {
	for round := range 50 {
		mark := fmt.Sprint("mark-", round)
		in := markedLock("robot-arm-1", mark)
		if before {
			in.Claim, _ = s.claim(mark)
		}
		var last store.Lock
		if handOver {
			last = s.create(newLock("robot-arm-1"))
		}
		var made, found int
		concurrently(2, func(i int) {
			if i == 1 {
				_, locks, err := s.Claim(context.Background(), owner, mark)
				if found = len(locks); err != nil {
					t.Error(err)
				}
				return
			}
			var both store.Handover
			var err error
			if handOver {
				both, err = s.HandOver(context.Background(), last.ID, store.Ending{}, in)
			} else {
				_, both.CreateErr = s.Create(context.Background(), in)
			}
			switch {
			case err != nil:
				t.Error(err)
			case both.CreateErr == nil:
				made = 1
			case !errors.Is(both.CreateErr, store.ErrSuperseded):
				t.Error(both.CreateErr)
			}
		})
		require.Equal(t, made, found, "round %d", round)
		locks, err := s.List(t.Context())
		require.NoError(t, err)
		require.Len(t, locks, made)
		for _, lock := range locks {
			s.delete(lock.ID)
		}
	}
}

// cancelAndCreateAtOnce: whichever comes first, no lock is left.
func cancelAndCreateAtOnce(t *testing.T, s tested) {
	for round := range 50 {
		in := markedLock("robot-arm-1", fmt.Sprint("mark-", round))
		concurrently(2, func(i int) {
			if i == 0 {
				if _, err := s.Create(context.Background(), in); err != nil &&
					!errors.Is(err, store.ErrCancelled) {
					t.Error(err)
				}
			} else if _, err := s.Cancel(context.Background(), owner, in.Mark); err != nil {
				t.Error(err)
			}
		})
		s.requireOnly()
	}
}

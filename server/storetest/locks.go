package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

func createReturnsTheLock(t *testing.T, s tested) {
	for _, creator := range []*string{nil, ptr(""), ptr("bench-7 ✓ #k3v5x2m4q7ab")} {
		in := newLock("robot-arm-1 " + fmt.Sprint(creator != nil, creator != nil && *creator == ""))
		in.Creator = creator
		lock := s.create(in)
		require.Equal(t, in.ID, lock.ID)
		require.Equal(t, in.Name, lock.Name)
		require.Equal(t, creator, lock.Creator)
		require.Equal(t, "192.0.2.7", lock.IP)
		require.Equal(t, owner, lock.Owner)
		require.Equal(t, lock.CreatedAt, lock.UpdatedAt)
		require.Equal(t, 10*time.Minute, lock.ExpiresAt.Sub(lock.CreatedAt))
		require.Positive(t, lock.FencingToken)
		for _, at := range []time.Time{lock.CreatedAt, lock.UpdatedAt, lock.ExpiresAt} {
			require.Equal(t, time.UTC, at.Location())
			require.Zero(t, at.Nanosecond()%1000, "finer than a microsecond")
		}
	}
}

func aNameHasOneLock(t *testing.T, s tested) {
	first := s.create(newLock("robot-arm-1"))
	holder, err := s.Create(t.Context(), newLock("robot-arm-1"))
	require.ErrorIs(t, err, store.ErrHeld)
	require.Equal(t, first, holder)
	holder, err = s.Holder(t.Context(), "robot-arm-1")
	require.NoError(t, err)
	require.Equal(t, first, holder)

	expired := s.expire(first.ID, time.Hour)
	holder, err = s.Create(t.Context(), newLock("robot-arm-1"))
	require.ErrorIs(t, err, store.ErrHeld, "an expired lock holds its name until it is swept")
	require.Equal(t, expired, holder)

	s.delete(first.ID)
	second := s.create(newLock("robot-arm-1"))
	require.NotEqual(t, first.ID, second.ID)
}

func oneOfManyCreatesWins(t *testing.T, s tested) {
	for round := range 20 {
		var wins, losses sync.Map
		concurrently(8, func(i int) {
			lock, err := s.Create(context.Background(), newLock("contended"))
			if err == nil {
				wins.Store(i, lock)
			} else {
				losses.Store(i, err)
			}
		})
		losses.Range(func(_, err any) bool {
			require.ErrorIs(t, err.(error), store.ErrHeld)
			return true
		})
		var won []store.Lock
		wins.Range(func(_, lock any) bool {
			won = append(won, lock.(store.Lock))
			return true
		})
		require.Len(t, won, 1, "round %d", round)
		s.delete(won[0].ID)
	}
}

func namesAreExact(t *testing.T, s tested) {
	long := make([]byte, 255)
	for i := range long {
		long[i] = 'x'
	}
	names := []string{"a", "A", " a", "a ", "ä", "a\u0308", "%", "_", "a'b\"c\\d", "<&>", "🤖",
		string(long), string(long[1:])}
	made := map[string]store.Lock{}
	for _, name := range names {
		made[name] = s.create(newLock(name))
	}
	for _, name := range names {
		holder, err := s.Holder(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, made[name], holder)
	}
}

func readTwiceIsEqual(t *testing.T, s tested) {
	in := newLock("robot-arm-1")
	in.Creator = ptr("bench-7")
	in.TTL = time.Minute + 123456789*time.Nanosecond
	want := s.create(in)
	check := func() {
		t.Helper()
		got, err := s.Get(t.Context(), want.ID)
		require.NoError(t, err)
		require.Equal(t, want, got)
		locks, err := s.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []store.Lock{want}, locks)
	}
	check()
	want = s.update(want.ID, store.Change{Lease: ptr(time.Minute + 123456789*time.Nanosecond)})
	check()
	want = s.update(want.ID, store.Change{Extend: 987654321 * time.Nanosecond})
	check()
	want = s.update(want.ID, store.Change{ExpiresAt: ptr(
		time.Date(2099, 12, 31, 12, 34, 56, 789012000, time.UTC))})
	check()
}

func goneIsGone(t *testing.T, s tested) {
	lock := s.create(newLock("robot-arm-1"))
	s.delete(lock.ID)
	s.requireGone(lock)
	_, err := s.Delete(t.Context(), lock.ID, store.Ending{})
	require.ErrorIs(t, err, store.ErrGone)
	_, err = s.Update(t.Context(), lock.ID, store.Change{Creator: ptr("x")})
	require.ErrorIs(t, err, store.ErrGone)
	_, err = s.Update(t.Context(), newID(), store.Change{})
	require.ErrorIs(t, err, store.ErrGone)
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, locks)
}

func updateChangesWhatItIsAskedTo(t *testing.T, s tested) {
	in := newLock("robot-arm-1")
	in.Creator = ptr("bench-7")
	made := s.create(in)

	got := s.update(made.ID, store.Change{})
	require.False(t, got.UpdatedAt.Before(made.UpdatedAt))
	made.UpdatedAt = got.UpdatedAt
	require.Equal(t, made, got, "nothing but updated_at")

	got = s.update(made.ID, store.Change{Creator: ptr("bench-8")})
	made.UpdatedAt, made.Creator = got.UpdatedAt, ptr("bench-8")
	require.Equal(t, made, got)

	at := time.Date(2099, 12, 31, 12, 34, 56, 789000000, time.UTC)
	got = s.update(made.ID, store.Change{ExpiresAt: &at})
	made.UpdatedAt, made.ExpiresAt = got.UpdatedAt, at
	require.Equal(t, made, got)

	got = s.update(made.ID, store.Change{Extend: -90 * time.Second})
	made.UpdatedAt, made.ExpiresAt = got.UpdatedAt, at.Add(-90*time.Second)
	require.Equal(t, made, got)

	past := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	got = s.update(made.ID, store.Change{ExpiresAt: &past, Creator: ptr("")})
	made.UpdatedAt, made.ExpiresAt, made.Creator = got.UpdatedAt, past, ptr("")
	require.Equal(t, made, got)
}

func aLeaseCountsFromUpdatedAt(t *testing.T, s tested) {
	lock := s.create(newLock("robot-arm-1"))
	for _, lease := range []time.Duration{time.Minute, 250 * time.Millisecond, 0, -time.Hour} {
		got := s.update(lock.ID, store.Change{Lease: &lease})
		require.Equal(t, lease, got.ExpiresAt.Sub(got.UpdatedAt))
		require.False(t, got.UpdatedAt.Before(lock.UpdatedAt))
		lock = got
	}
}

// aBoundCapsTheExpiry: a new expiry is at most so long after the creation, however it is set.
func aBoundCapsTheExpiry(t *testing.T, s tested) {
	in := newLock("robot-arm-1")
	in.Leased = true
	lock := s.create(in)
	const bound = 3 * time.Minute
	late, soon := lock.CreatedAt.Add(time.Hour), lock.CreatedAt.Add(time.Minute)
	hour, negative := time.Hour, -time.Hour
	for range 2 { // from below the bound, and at it
		for _, change := range []store.Change{{ExpiresAt: &late}, {Lease: &hour}, {Extend: hour}} {
			change.MaxHold = bound
			got := s.update(lock.ID, change)
			require.Equal(t, lock.CreatedAt.Add(bound), got.ExpiresAt)
		}
	}
	require.Equal(t, soon,
		s.update(lock.ID, store.Change{ExpiresAt: &soon, MaxHold: bound}).ExpiresAt)
	got := s.update(lock.ID, store.Change{Lease: &negative, MaxHold: bound})
	require.Equal(t, negative, got.ExpiresAt.Sub(got.UpdatedAt))

	// What does not set the expiry keeps it, also where it is later.
	s.update(lock.ID, store.Change{ExpiresAt: &late})
	got = s.update(lock.ID, store.Change{Creator: ptr("bench-8"), MaxHold: bound})
	require.Equal(t, late, got.ExpiresAt)
	got = s.update(lock.ID, store.Change{Extend: time.Minute, MaxHold: bound})
	require.Equal(t, lock.CreatedAt.Add(bound), got.ExpiresAt)
}

func timesStayInRange(t *testing.T, s tested) {
	lock := s.create(newLock("robot-arm-1"))
	for _, at := range []time.Time{
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC),
	} {
		lock = s.update(lock.ID, store.Change{ExpiresAt: &at})
		require.Equal(t, at, lock.ExpiresAt)
		beyond := time.Microsecond
		if at.Year() == 1 {
			beyond = -beyond
		}
		_, err := s.Update(t.Context(), lock.ID,
			store.Change{Extend: beyond, Creator: ptr("must not stay")})
		require.ErrorIs(t, err, store.ErrOutOfRange)
		got, err := s.Get(t.Context(), lock.ID)
		require.NoError(t, err)
		require.Equal(t, lock, got, "whole or not at all")
	}
}

func deleteReturnsTheLockAsItWas(t *testing.T, s tested) {
	lock := s.create(newLock("robot-arm-1"))
	lock = s.update(lock.ID, store.Change{Creator: ptr("bench-8")})
	require.Equal(t, lock, s.delete(lock.ID))
}

func oneOfManyDeletesWins(t *testing.T, s tested) {
	for range 20 {
		lock := s.create(newLock("robot-arm-1"))
		errs := make([]error, 8)
		concurrently(len(errs), func(
			i int) {
			_, errs[i] = s.Delete(context.Background(), lock.ID, store.Ending{})
		})
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				require.ErrorIs(t, err, store.ErrGone)
			}
		}
		require.Equal(t, 1, won)
	}
}

func fencingTokensRise(t *testing.T, s tested) {
	last := map[string]uint64{}
	first := s.create(newLock("robot-arm-3"))
	require.GreaterOrEqual(t, first.FencingToken, uint64(first.CreatedAt.UnixMicro()),
		"as for every store before this one")
	for i := range 30 {
		name := []string{"robot-arm-1", "robot-arm-2"}[i%2]
		lock := s.create(newLock(name))
		require.Greater(t, lock.FencingToken, last[name])
		require.Equal(t, lock.FencingToken, s.update(lock.ID, store.Change{}).FencingToken)
		last[name] = lock.FencingToken
		if i%3 == 0 {
			s.expire(lock.ID, time.Hour)
			_, err := s.Sweep(t.Context(), store.Limits{})
			require.NoError(t, err)
		} else {
			s.delete(lock.ID)
		}
	}

	// In the order in which the locks came to be, also when many try at once.
	var mu sync.Mutex
	highest := last["robot-arm-1"]
	concurrently(8, func(int) {
		for made := 0; made < 10; {
			lock, err := s.Create(context.Background(), newLock("robot-arm-1"))
			if err != nil {
				continue
			}
			made++
			mu.Lock()
			rising := lock.FencingToken > highest
			highest = lock.FencingToken
			mu.Unlock()
			if !rising {
				t.Errorf("token %d came after a higher one", lock.FencingToken)
			}
			if _, err := s.Delete(context.Background(), lock.ID, store.Ending{}); err != nil {
				t.Error(err)
			}
		}
	})
}

func listIsOldestFirst(t *testing.T, s tested) {
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, locks)
	var want []store.Lock
	for i := range 20 {
		want = append(want, s.create(newLock(fmt.Sprint("lock ", (i*7)%20))))
	}
	s.delete(want[5].ID)
	want = append(want[:5], want[6:]...)
	want[3] = s.expire(want[3].ID, time.Hour)
	locks, err = s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, locks)
}

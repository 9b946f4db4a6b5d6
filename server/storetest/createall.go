package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// markedLocks are locks to be created together.
func markedLocks(mark string, claim uint64, names ...string) (all []store.NewLock) {
	for _, name := range names {
		all = append(all, claimed(name, mark, claim))
	}
	return all
}

func createAllMakesAll(t *testing.T, s tested) {
	in := markedLocks(mark, 0, "c", "a", "b")
	locks, err := s.CreateAll(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, locks, 3)
	for i, lock := range locks {
		require.Equal(t, in[i].ID, lock.ID)
		require.Equal(t, in[i].Name, lock.Name)
		require.Equal(t, in[i].Creator, lock.Creator)
		require.Equal(t, in[i].TTL, lock.ExpiresAt.Sub(lock.CreatedAt))
		read, err := s.Get(t.Context(), lock.ID)
		require.NoError(t, err)
		require.Equal(t, lock, read)
		if i > 0 {
			require.Greater(t, lock.FencingToken, locks[i-1].FencingToken)
		}
	}
	claim, found := s.claim(mark)
	require.ElementsMatch(t, locks, found)
	_, err = s.CreateAll(t.Context(), markedLocks(mark, claim, "d", "a"))
	require.ErrorIs(t, err, store.ErrHeld)
	require.ElementsMatch(t, locks, s.cancel(mark))
	s.requireOnly()
}

func createAllMakesNone(t *testing.T, s tested) {
	a, c := s.create(newLock("a")), s.create(newLock("c"))
	holders, err := s.CreateAll(t.Context(), markedLocks(mark, 0, "b", "c", "d", "a"))
	require.ErrorIs(t, err, store.ErrHeld)
	require.Equal(t, []store.Lock{{}, c, {}, a}, holders)
	s.requireOnly(a, c)
}

// createAllAtOnce: what overlaps excludes each other, and nobody waits for ever.
func createAllAtOnce(t *testing.T, s tested) {
	names := []string{"a", "b", "c", "d"}
	var going sync.WaitGroup
	for i := range names {
		going.Go(func() {
			mine := []string{names[i], names[(i+1)%4], names[(i+3)%4]}
			for wins, tries := 0, 0; wins < 5 && tries < 5000; tries++ {
				locks, err := s.CreateAll(context.Background(), markedLocks("", 0, mine...))
				if errors.Is(err, store.ErrHeld) {
					continue
				}
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				wins++
				for _, lock := range locks {
					held, err := s.Holder(context.Background(), lock.Name)
					if err != nil || held.ID != lock.ID {
						t.Errorf("%s is held by %v: %v", lock.Name, held.ID, err)
					}
				}
				for _, lock := range locks {
					_, err := s.Delete(context.Background(), lock.ID, store.Ending{})
					if err != nil {
						t.Errorf("delete: %v", err)
					}
				}
			}
		})
	}
	going.Wait()
	s.requireOnly()
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// brokenStore is a store in memory whose creates fail once it is told to.
type brokenStore struct {
	*memstore.Store
	broken bool
	depth  int // of the stack, at most
}

func (s *brokenStore) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	if s.broken {
		s.depth = max(s.depth, runtime.Callers(0, make([]uintptr, 1000)))
		return store.Lock{}, errors.New("broken")
	}
	return s.Store.Create(ctx, in)
}

// TestManyWaitersEndInARow without a stack that grows with them.
func TestManyWaitersEndInARow(t *testing.T) {
	s := &brokenStore{Store: memstore.New()}
	run(t, s, func(b *bench) {
		b.MaxWaiters = 1000
		c := b.connect()
		c.acquire("holder")
		for i := range b.MaxWaiters {
			c.acquire(fmt.Sprint(i))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		s.broken = true
		lock, err := b.Holder(t.Context(), "robot")
		require.NoError(t, err)
		b.deleteQuietly(lock.ID)
		require.Zero(t, b.open)
		require.Len(t, c.told(), 2+1+b.MaxWaiters)
		require.Less(t, s.depth, 100)
	})
}

// deleteQuietly deletes a lock without a hand-over.
func (b *bench) deleteQuietly(id string) {
	b.do(func() { b.delete(nil, id, "default", func(store.Lock, error) {}) })
}

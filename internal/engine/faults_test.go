package engine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestAHeldNameIsNoTurn: a new waiter has the store asked again, and no plain client loses its rank
// by that.
func TestAHeldNameIsNoTurn(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c := b.connect()
		c.acquire("a")
		c.acquire("b", priority(-1))
		py, _ := b.plain("py", noWait)
		require.Len(t, py.told(), 1)
		time.Sleep(2 * offerAgain)
		c.acquire("c", priority(-1))
		synctest.Wait()
		require.Nil(t, b.queues["robot"].reserved)
		c.told()
		require.NoError(t, c.release("robot"))
		require.NotNil(t, b.queues["robot"].reserved, "now it is its turn")
		require.Empty(t, c.told())
	})
}

// TestAFullServerTakesWaitersBack after their connection broke.
func TestAFullServerTakesWaitersBack(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c := b.connect()
		c.acquire("holder")
		for i := range maxWaiters {
			c.acquire(fmt.Sprint(i))
		}
		c.acquire("new")
		require.Contains(t, c.told(), "new refused "+ErrFull.Error()+", held by holder")
		b.Disconnect(c.conn, false)
		back := b.connect()
		for i := range maxWaiters {
			back.acquire(fmt.Sprint(i), again)
		}
		require.Empty(t, back.told())
		require.Equal(t, maxWaiters, b.waiting("robot"))
	})
}

// TestWithoutWaitADownStoreIsReported while others wait for it.
func TestWithoutWaitADownStoreIsReported(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		s.set(faults{fail: errNotDone})
		c := b.connect()
		c.acquire("a")
		synctest.Wait()
		c.acquire("b", noWait)
		time.Sleep(time.Millisecond)
		require.Equal(t, []string{"b refused " + store.ErrUnavailable.Error()}, c.told())
	})
}

// TestRanksOfPlainClientsEnd also while the name stays held.
func TestRanksOfPlainClientsEnd(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c := b.connect()
		c.acquire("a", func(w *Waiter) { w.New.TTL = time.Hour })
		c.acquire("b")
		for i := range 2 * maxWaiters {
			b.plain(fmt.Sprint("py", i), noWait)
		}
		synctest.Wait()
		b.mu.Lock()
		ranks := b.ranks
		b.mu.Unlock()
		require.Equal(t, maxWaiters, ranks)
		time.Sleep(plainRank)
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Zero(t, b.ranks)
		require.Equal(t, 1, b.queues["robot"].places.Len())
	})
}

package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// gatedStore is a store whose creates end together, as those of one transaction do.
type gatedStore struct {
	store.Store
	gate chan struct{}
}

func (s *gatedStore) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	<-s.gate
	return s.Store.Create(ctx, in)
}

// flushCounter counts the writes of a connection.
type flushCounter struct {
	*client
	flushed atomic.Int32
}

func (c *flushCounter) Flush() { c.flushed.Add(1) }

// TestResponsesOfOneTransactionShareAWrite, and the goroutines that waited for the store make the
// next calls, up to maxIdle of them.
func TestResponsesOfOneTransactionShareAWrite(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, n := range []int{maxIdle / 2, 2 * maxIdle} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := &gatedStore{Store: memstore.New()}
			run(t, s, func(b *bench) {
				s.gate = make(chan struct{})
				b.MaxWaiters = n
				c := &flushCounter{client: b.connect()}
				c.conn.sink = c
				for i := range n {
					c.acquire(fmt.Sprint(i), names(fmt.Sprint("arm-", i)))
				}
				synctest.Wait()
				before := c.flushed.Load()
				close(s.gate)
				synctest.Wait()
				require.Len(t, c.told(), n)
				require.LessOrEqual(t, int(c.flushed.Load()-before), 1+n/8)
				require.EqualValues(t, min(n, maxIdle), b.idle.Load())
			})
		})
	}
}

// flushOrder records which connections are flushed, in order.
type flushOrder struct {
	*client
	name  string
	order *[]string
}

func (c *flushOrder) Flush() { *c.order = append(*c.order, c.name) }

func TestANewHolderHearsOfItBeforeTheRelease(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		var order []string
		connect := func(name string) *client {
			c := b.connect()
			c.conn.sink = &flushOrder{c, name, &order}
			return c
		}
		old, next := connect("old"), connect("next")
		old.acquire("a", names("arm"))
		next.acquire("b", names("arm"))
		synctest.Wait()
		order = nil
		require.NoError(t, old.release("arm"))
		synctest.Wait()
		require.Equal(t, []string{"next", "old"}, slices.Compact(order))
	})
}

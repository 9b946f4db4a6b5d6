package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/wire"
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
	b.do(func() { b.delete(nil, id, store.Ending{By: "default"}, func(*store.Lock, error) {}) })
}

// BenchmarkOneQueue joins 20,000 waiters to one queue, in the order of their ranks, in the opposite
// order or with progress, and then releases all of them.
func BenchmarkOneQueue(b *testing.B) {
	const waiters = 20_000
	for name, option := range map[string]func(i int, w *Waiter){
		"in order": func(int, *Waiter) {},
		"opposite": func(i int, w *Waiter) { w.Waited = time.Duration(i) * time.Second },
		"at random": func(i int, w *Waiter) {
			w.Waited = time.Duration(i*7919%waiters) * time.Second
		},
		"with progress": func(_ int, w *Waiter) { w.Progress = true },
		"plain":         func(_ int, w *Waiter) { w.Conn = nil },
	} {
		b.Run(name, func(b *testing.B) {
			e := New(b.Context(), memstore.New(), Config{
				MaxWaiters: waiters, Log: slog.New(slog.DiscardHandler), NewID: wire.NewID,
				Publish: func(store.Event) {}, Flush: func() {},
			})
			time.Sleep(holdOff)
			for b.Loop() {
				sink := new(lastGrant)
				c := e.Connect(sink)
				for i := range waiters {
					creator := fmt.Sprint(i)
					w := &Waiter{Conn: c, Sink: sink, Names: []string{"robot"}, Wait: true,
						New: store.NewLock{
							Creator: &creator, Owner: "default", TTL: time.Hour, Leased: true,
						}}
					if option(i, w); w.Conn != nil {
						w.New.Mark = creator
					}
					e.Acquire(w)
				}
				for range waiters {
					e.Delete(c, sink.lock.ID, store.Ending{By: "default"},
						func(store.Lock, error) {})
				}
				e.Disconnect(c, true)
			}
		})
	}
}

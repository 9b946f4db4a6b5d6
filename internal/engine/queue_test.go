package engine

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestAGrantIsTakenBackUntilItIsReturned: the client goes away, or calls off, when it was granted
// the lock but does not know. The next waiter has it then.
func TestAGrantIsTakenBackUntilItIsReturned(t *testing.T) {
	for _, how := range []string{"gone", "called off"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := memstore.New()
				running, stop := context.WithCancel(t.Context())
				e := New(running, st, Config{
					MaxWaiters: 10, Log: slog.New(slog.DiscardHandler), NewID: newID(),
					Publish: func(store.Event) {}, Flush: func() {},
				})
				mark := "k3v5x2m4q7ab"
				if how == "gone" {
					mark = "" // with a mark the client may have found the lock
				}
				first, err := e.queues.join(newLock("1", mark))
				require.NoError(t, err)
				second, err := e.queues.join(newLock("2", "k3v5x2m4q7ac"))
				require.NoError(t, err)
				e.offer("robot-arm-1")
				<-first.done
				require.NoError(t, first.err)
				require.False(t, e.queues.leave(first, false))

				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				want := ErrClientGone
				if how == "gone" {
					cancel()
				} else {
					e.queues.callOff("k3v5x2m4q7ab", time.Minute)
					want = store.ErrCalledOff
				}
				_, err = e.decision(ctx, first)
				require.ErrorIs(t, err, want)
				_, err = st.Get(t.Context(), first.lock.ID)
				require.ErrorIs(t, err, store.ErrGone)
				<-second.done
				require.Equal(t, second.in.ID, second.lock.ID)

				e.queues.forget(first)
				e.queues.forget(second)
				requireEmpty(t, &e.queues)
				stop()
				e.Wait()
			})
		})
	}
}

func newLock(id, mark string) store.NewLock {
	return store.NewLock{ID: id, Name: "robot-arm-1", Mark: mark, TTL: time.Minute}
}

// newID returns a function that returns ids 100, 101, …
func newID() func() string {
	n := 99
	return func() string { n++; return strconv.Itoa(n) }
}

// requireEmpty checks that nothing is left but marks that were called off.
func requireEmpty(t *testing.T, q *queues) {
	t.Helper()
	require.Empty(t, q.byName)
	require.Zero(t, q.marks.Len())
	require.Zero(t, q.total)
}

// TestTheQueuesForget: many with the same mark come and go in any order.
func TestTheQueuesForget(t *testing.T) {
	var q queues
	q.init(100, newID())
	var all []*waiter
	for i := range 50 {
		w, err := q.join(store.NewLock{Name: []string{"a", "b"}[i%2],
			Mark: []string{"", "same", "other"}[i%3]})
		require.NoError(t, err)
		all = append(all, w)
	}
	require.Equal(t, 25, q.waiters("a"))
	q.callOff("same", time.Minute)
	for i := range all {
		w := all[(i*7)%len(all)]
		require.Equal(t, w.in.Mark == "same", !q.leave(w, false))
		require.Equal(t, w.in.Mark == "same", q.forget(w))
		require.False(t, q.leave(w, false))
	}
	requireEmpty(t, &q)
}

// TestAnOfferIsNotLost: a name that comes free while it is being offered is offered once more.
func TestAnOfferIsNotLost(t *testing.T) {
	var q queues
	q.init(100, newID())
	w, err := q.join(store.NewLock{Name: "a"})
	require.NoError(t, err)
	require.Equal(t, w, q.offer("a"))
	require.Nil(t, q.offer("a"), "it is being offered")
	require.Equal(t, w, q.next(w, false), "once more")
	require.Nil(t, q.next(w, false))
	require.Equal(t, w, q.offer("a"))
	require.True(t, q.leave(w, false))
	require.False(t, q.accept(w, store.Lock{}))
	require.Nil(t, q.next(w, true))
	requireEmpty(t, &q)
}

// TestTheQueuesForgetHolders of names that have no queue any more.
func TestTheQueuesForgetHolders(t *testing.T) {
	var q queues
	q.init(10, newID())
	for i, end := range []func(w *waiter){
		func(w *waiter) { q.leave(w, false); q.next(w, false) },
		func(w *waiter) { require.Nil(t, q.next(w, false)); q.leave(w, false) },
		func(w *waiter) { q.accept(w, store.Lock{ID: "another"}); q.next(w, false) },
		func(w *waiter) { q.refuse(w, store.ErrUnavailable); q.next(w, false) },
	} {
		w, err := q.join(store.NewLock{ID: "id", Name: "robot-arm-1"})
		require.NoError(t, err)
		require.Equal(t, w, q.offer("robot-arm-1"))
		q.heldBy(w.queue, "holder")
		require.Nil(t, q.offerHeldBy("holder"), "it is being offered")
		end(w)
		require.Empty(t, q.byHolder, "%d", i)
		require.Empty(t, q.byName, "%d", i)
		require.Nil(t, q.offerHeldBy("holder"))
	}
}

package server

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAGrantIsTakenBackBeforeItsFirstByte: the caller goes away, or calls off, when the lock is his already but he was not
// told. The next in line has it then.
func TestAGrantIsTakenBackBeforeItsFirstByte(t *testing.T) {
	for _, how := range []string{"gone", "called off"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := NewMemoryStore()
				s := New(store)
				mark := "k3v9x2m4q7ab"
				if how == "gone" {
					mark = "" // by a mark he may have found it
				}
				first, err := s.room.join(NewLock{ID: newID(), Name: "robot-arm-1", Mark: mark, TTL: time.Minute})
				require.NoError(t, err)
				second, err := s.room.join(NewLock{ID: newID(), Name: "robot-arm-1", Mark: "k3v9x2m4q7ab2", TTL: time.Minute})
				require.NoError(t, err)
				s.handOn("robot-arm-1")
				<-first.done
				require.NoError(t, first.err)
				require.False(t, s.room.quit(first, false))

				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				rec := httptest.NewRecorder()
				want := 503
				if how == "gone" {
					cancel()
				} else {
					s.room.callOff("k3v9x2m4q7ab", time.Minute)
					want = 410
				}
				s.writeDecision(rec, httptest.NewRequestWithContext(ctx, "POST", "/v1/locks", nil), first)
				require.Equal(t, want, rec.Code)
				_, err = store.Get(t.Context(), first.lock.ID)
				require.ErrorIs(t, err, ErrGone)
				<-second.done
				require.Equal(t, second.in.ID, second.lock.ID)

				s.room.forget(first)
				s.room.forget(second)
				requireEmpty(t, &s.room)
				require.NoError(t, s.Shutdown(t.Context()))
			})
		})
	}
}

// requireEmpty: whoever comes and goes leaves nothing in the room but marks called off.
func requireEmpty(t *testing.T, ro *room) {
	t.Helper()
	require.Empty(t, ro.lines)
	require.Empty(t, ro.marks)
	require.Zero(t, ro.total)
}

// TestTheRoomForgets: many with the same mark come and go in any order.
func TestTheRoomForgets(t *testing.T) {
	var ro room
	ro.init(100)
	var all []*waiter
	for i := range 50 {
		w, err := ro.join(NewLock{Name: []string{"a", "b"}[i%2], Mark: []string{"", "same", "other"}[i%3]})
		require.NoError(t, err)
		all = append(all, w)
	}
	require.Equal(t, 25, ro.count("a"))
	ro.callOff("same", time.Minute)
	for i := range all {
		w := all[(i*7)%len(all)]
		require.Equal(t, w.in.Mark == "same", !ro.quit(w, false))
		require.Equal(t, w.in.Mark == "same", ro.forget(w))
		require.False(t, ro.quit(w, false))
	}
	requireEmpty(t, &ro)
}

// TestAnOfferIsNotLost: a name that comes free while it is being offered is offered once more.
func TestAnOfferIsNotLost(t *testing.T) {
	var ro room
	ro.init(100)
	w, err := ro.join(NewLock{Name: "a"})
	require.NoError(t, err)
	require.Equal(t, w, ro.offer("a"))
	require.Nil(t, ro.offer("a"), "somebody is at it")
	require.Equal(t, w, ro.next(w, false), "once more")
	require.Nil(t, ro.next(w, false))
	require.Equal(t, w, ro.offer("a"))
	require.True(t, ro.quit(w, false))
	require.False(t, ro.accept(w, Lock{}))
	require.Nil(t, ro.next(w, true))
	requireEmpty(t, &ro)
}

// TestARoomForgetsTheHolders of names that nobody queues for any more.
func TestARoomForgetsTheHolders(t *testing.T) {
	var ro room
	ro.init(10)
	for i, end := range []func(w *waiter){
		func(w *waiter) { ro.quit(w, false); ro.next(w, false) },
		func(w *waiter) { require.Nil(t, ro.next(w, false)); ro.quit(w, false) },
		func(w *waiter) { ro.accept(w, Lock{ID: "another"}); ro.next(w, false) },
		func(w *waiter) { ro.refuse(w, ErrUnavailable); ro.next(w, false) },
	} {
		w, err := ro.join(NewLock{ID: "id", Name: "robot-arm-1"})
		require.NoError(t, err)
		require.Equal(t, w, ro.offer("robot-arm-1"))
		ro.heldBy(w.line, "holder")
		require.Nil(t, ro.offerHeldBy("holder"), "it is being offered")
		end(w)
		require.Empty(t, ro.held, "%d", i)
		require.Empty(t, ro.lines, "%d", i)
		require.Nil(t, ro.offerHeldBy("holder"))
	}
}

package engine

import (
	"context"
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Release deletes a lock and hands its name on: in one step where the first waiter is known. The
// grant has been made, or has failed, when it returns. It is not undone when ctx ends.
func (e *Engine) Release(ctx context.Context, id string) (store.Lock, error) {
	ctx = context.WithoutCancel(ctx)
	if head := e.queues.offerHeldBy(id); head != nil {
		return e.handOver(ctx, id, head)
	}
	lock, err := e.remove(ctx, id)
	if err == nil {
		e.deleted(&lock)
	}
	return lock, err
}

// Announce tells the other servers that share the store of an event.
func (e *Engine) Announce(event store.Event) {
	if a, ok := e.store.(store.Announcer); ok {
		a.Announce(event)
	}
}

// handOver deletes a lock and grants the next one to the head of the queue, to which its name is
// being offered.
//
// When the store is unavailable, the outcome is unknown, and the head keeps its place. When the
// name is offered again, it turns out whether the head holds it already. If the head leaves before,
// the lock is taken back. After any other error the two steps are taken one by one: a create that
// fails must not prevent the delete.
func (e *Engine) handOver(ctx context.Context, id string, head *waiter) (store.Lock, error) {
	in := head.in
	in.Waited = time.Since(head.since)
	var both store.Handover
	err := e.guarded(func() (err error) {
		both, err = e.store.HandOver(ctx, id, in)
		return err
	})
	free := false
	switch {
	case err == nil:
		if err = both.DeleteErr; err == nil {
			e.publish(store.EventDeleted, &both.Deleted)
		}
		free = e.granted(head, both.Created, both.CreateErr)
	case !errors.Is(err, store.ErrUnavailable):
		if both.Deleted, err = e.remove(ctx, id); err == nil {
			e.publish(store.EventDeleted, &both.Deleted)
		}
		free = err == nil || errors.Is(err, store.ErrGone)
	case !e.queues.outcomeUnknown(head):
		free = e.undoUnknown(&in)
	}
	e.offerFrom(e.queues.next(head, free))
	return both.Deleted, err
}

// deleted records a lock that is gone, and hands its name on.
func (e *Engine) deleted(lock *store.Lock) {
	e.publish(store.EventDeleted, lock)
	e.offer(lock.Name)
}

// offerAll offers names.
func (e *Engine) offerAll(names ...string) {
	for _, name := range names {
		e.offer(name)
	}
	e.Flush()
}

// offer offers a name that may be free to its waiters, until one has it or none is left. When it
// returns, that is done or another goroutine is doing it.
func (e *Engine) offer(name string) { e.offerFrom(e.queues.offer(name)) }

// offerFrom offers a name as offer does, beginning with w, which may be nil.
func (e *Engine) offerFrom(w *waiter) {
	for w != nil {
		free := true
		err := e.guarded(func() error { free = e.grant(w); return nil })
		if err != nil {
			e.queues.refuse(w, err)
		}
		w = e.queues.next(w, free)
	}
}

// grant tries to create the lock that w waits for. It reports whether the name may still be free.
func (e *Engine) grant(w *waiter) (free bool) {
	in := w.in
	in.Waited = time.Since(w.since)
	lock, err := e.store.Create(context.Background(), in)
	return e.granted(w, lock, err)
}

// granted handles the result of a create for w. It reports whether the name may still be free.
func (e *Engine) granted(w *waiter, lock store.Lock, err error) (free bool) {
	switch {
	case err == nil, errors.Is(err, store.ErrHeld) && w.made(lock.ID):
		for _, id := range w.unknown {
			if id != lock.ID {
				e.orphan(&store.NewLock{ID: id}) // also with a mark: it leads to the granted one
			}
		}
		e.created(&lock)
		return !e.queues.accept(w, lock) && e.undo(&store.NewLock{
			ID: lock.ID, Name: lock.Name, Mark: w.in.Mark,
		})
	case errors.Is(err, store.ErrHeld):
		e.queues.heldBy(w.queue, lock.ID)
		return false
	case errors.Is(err, store.ErrUnavailable):
		// The name may be free, and nothing would say so later. The waiters had better come again.
		if unknownOutcome(err) {
			e.orphan(&w.in)
		}
		e.queues.refuseAll(w.queue, err)
		return false
	default:
		e.queues.refuse(w, err)
		return true
	}
}

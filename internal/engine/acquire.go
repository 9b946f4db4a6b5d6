package engine

import (
	"context"
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	createdTTL = 10 * time.Minute // of a lock whose name was free
	grantedTTL = time.Minute      // of one granted from a queue, whose client may be gone unseen
)

// Acquire creates a lock. One that is not leased gets a TTL of the engine's own. Where the name is
// held it waits in the queue for at most wait, after a call of onQueue; queued reports whether it
// did. With [store.ErrHeld] it returns the holder, or the zero Lock if that is not known.
//
// A create whose ctx ended is undone, unless it has a mark: by that its client may have found the
// lock, and can call it off.
func (e *Engine) Acquire(
	ctx context.Context, in store.NewLock, wait time.Duration, onQueue func(),
) (lock store.Lock, queued bool, err error) {
	contended, calledOff := e.queues.look(in.Name, in.Mark)
	if calledOff {
		return store.Lock{}, false, store.ErrCalledOff
	}
	err = store.ErrHeld // nobody overtakes a waiter
	switch {
	case !contended:
		if !in.Leased {
			in.TTL = createdTTL
		}
		lock, err = e.store.Create(context.WithoutCancel(ctx), in)
	case wait == 0:
		lock = e.holder(ctx, in.Name)
	}
	switch {
	case err == nil:
		e.created(&lock)
		if ctx.Err() != nil && in.Mark == "" {
			e.takeBack(&in)
			return store.Lock{}, false, ErrClientGone
		}
		return lock, false, nil
	case !errors.Is(err, store.ErrHeld):
		if unknownOutcome(err) {
			e.orphan(&in)
		}
		return store.Lock{}, false, err
	case wait == 0:
		return lock, false, err
	}
	onQueue()
	if !in.Leased {
		in.TTL = grantedTTL
	}
	lock, err = e.wait(ctx, in, wait)
	return lock, true, err
}

// wait queues for a name, and returns the lock that it was granted.
func (e *Engine) wait(
	ctx context.Context, in store.NewLock, wait time.Duration,
) (store.Lock, error) {
	w, err := e.queues.join(in)
	if err != nil {
		return store.Lock{}, err
	}
	defer e.queues.forget(w)
	if w.offers {
		e.offerAll(in.Name) // it may have come free unnoticed
	}
	timedOut := e.await(ctx, w, wait)
	left := e.queues.leave(w, timedOut) || w.err == errLate
	unsure := false
	for _, id := range w.unknown {
		if w.lock.ID == "" && !w.findable {
			in.ID = id
			unsure = !e.takeBackUnknown(&in) || unsure
		}
	}
	switch {
	case !left:
		return e.decision(ctx, w)
	case timedOut && unsure: // ErrHeld would say that the client has no lock
		return store.Lock{}, store.ErrUnavailable
	case timedOut:
		return e.holder(ctx, in.Name), store.ErrHeld
	case ctx.Err() != nil:
		return store.Lock{}, ErrClientGone
	default:
		return store.Lock{}, ErrClosing
	}
}

// await returns when the waiter has been decided on, its time is up, its client is gone or the
// engine stops. It reports whether the time was up.
func (e *Engine) await(ctx context.Context, w *waiter, wait time.Duration) (timedOut bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	expired := timer.C
	for {
		select {
		case <-expired:
			if !e.queues.expire(w) {
				return true
			}
			timedOut, expired = true, nil
		case <-w.done:
			return timedOut
		case <-ctx.Done():
			return timedOut
		case <-e.stopped.Done():
			return timedOut
		}
	}
}

// decision returns what was decided on a waiter. Until then the lock can be taken back.
func (e *Engine) decision(ctx context.Context, w *waiter) (store.Lock, error) {
	if w.err != nil {
		return store.Lock{}, w.err
	}
	in := w.in
	in.ID = w.lock.ID
	switch calledOff := e.queues.forget(w); {
	case calledOff:
		e.takeBack(&in)
		return store.Lock{}, store.ErrCalledOff
	case ctx.Err() != nil && in.Mark == "":
		e.takeBack(&in)
		return store.Lock{}, ErrClientGone
	}
	return w.lock, nil
}

// holder returns the lock that holds the name, or the zero Lock if that is not known.
func (e *Engine) holder(ctx context.Context, name string) store.Lock {
	holder, _ := e.store.Holder(ctx, name)
	return holder
}

// takeBack deletes a lock that its client does not know, and hands its name on.
func (e *Engine) takeBack(in *store.NewLock) {
	if e.undo(in) {
		e.offer(in.Name)
	}
}

// takeBackUnknown does the same for a lock that may exist or come to exist. It reports whether the
// lock does not exist now.
func (e *Engine) takeBackUnknown(in *store.NewLock) (gone bool) {
	if gone = e.undoUnknown(in); gone {
		e.offer(in.Name)
	}
	return gone
}

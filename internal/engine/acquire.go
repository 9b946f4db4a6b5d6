package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	createdTTL = 10 * time.Minute // of a lock whose name was free
	grantedTTL = time.Minute      // of one granted from a queue, whose client may be gone unseen

	perPriority = 10 * time.Minute // in the queue
	maxShift    = 2 * time.Second  // of a rank, by clocks that differ
)

// Acquire asks for a lock of any of the names. Its end comes to the sink: [Sink.Granted], or
// [Sink.Refused] with an error of the store or of this package; store.ErrHeld if the waiter does
// not wait. A lock that is not leased gets a TTL of the engine's own.
//
// On a connection an acquire is identified by its mark. One with the mark of an open one takes its
// place; one that says that it comes again gets the lock of the mark if there is one. Over HTTP a
// mark is claimed too, but its lock is a holder like any other.
func (e *Engine) Acquire(w *Waiter) {
	e.do(func() {
		w.arrived = time.Now()
		if e.closing {
			w.ended = true
			if w.Conn == nil {
				e.tell(w.Sink).Refused(w, ErrClosing, nil)
			}
			return
		}
		if w.All {
			w.ended = true
			e.tell(e.sink(w)).Refused(w, ErrNotOffered, nil)
			return
		}
		w.pure = !w.Again
		if w.Conn == nil {
			w.plain = plainOf(w)
			w.Again = w.New.Mark != ""
			if w.made = w.New.Mark == ""; w.made {
				w.New.Mark = e.NewID()
			}
		}
		w.key = markKey{w.New.Owner, w.New.Mark}
		e.arrivals++
		w.rank = e.rankOf(w)
		w.arrival = e.arrivals
		old := e.marks[w.key]
		switch {
		case old == nil:
			if e.open >= 2*e.MaxWaiters {
				w.ended = true
				e.tell(e.sink(w)).Refused(w, ErrFull, nil)
				return
			}
		case old.Conn != nil && old.Conn == w.Conn:
			w.ended = true
			if slices.Equal(old.Names, w.Names) {
				old.N = w.N
				e.follow(old, w.Progress)
			} else {
				e.tell(w.Conn.sink).Refused(w, ErrMarkInUse, nil)
			}
			return
		default:
			if slices.Equal(old.Names, w.Names) {
				w.rank, w.arrival = old.places[0].rank, old.places[0].arrival
			}
			w.Again = true
		}
		e.marks[w.key] = w
		e.open++
		if w.Conn != nil {
			w.Conn.waiters[w] = struct{}{}
		}
		w.excess = w.Wait && e.open > e.MaxWaiters && (old == nil || old.excess)
		w.unready = w.Again
		w.pure = w.pure && !w.Again
		e.join(w)
		if old != nil {
			e.refuse(old, store.ErrSuperseded, nil)
		}
	})
}

// rankOf returns the rank of a waiter that arrives. One that had a rank on an earlier connection
// keeps it: how long it has waited is not known as exactly, since messages take their time. But no
// clock, of this server or another, may move it by maxShift.
func (e *Engine) rankOf(w *Waiter) time.Duration {
	rank := w.arrived.Sub(e.started) - w.Waited - time.Duration(w.Priority)*perPriority
	if w.Again && !w.Rank.IsZero() {
		if had := w.Rank.Sub(e.started); (had - rank).Abs() < maxShift {
			return had
		}
	}
	return rank
}

// join gives a waiter its places.
func (e *Engine) join(w *Waiter) {
	w.Rank = e.started.Add(w.rank)
	w.places = make([]*place, len(w.Names))
	for i, name := range w.Names {
		q := e.queueOf(name)
		p := &place{rank: w.rank, arrival: w.arrival, w: w, ahead: -1}
		if w.plain != (plainKey{}) {
			e.takeRank(q, p)
		}
		w.places[i] = p
		q.insert(p)
		e.recounted(q)
	}
	if w.unready {
		e.claim(w)
		return
	}
	e.offerAll(w)
}

// claim claims the mark of a waiter that comes again, and grants it the lock of the mark if there
// is one.
func (e *Engine) claim(w *Waiter) {
	if w.ended || !w.unready || !w.idle() {
		return
	}
	w.asking = true
	var t try
	e.call(func() { t.claim(e, w) }, func() {
		w.asking = false
		if t.err == nil {
			w.New.Claim = t.claimed
		}
		e.claimed(w, &t)
		e.settle(w)
	})
}

// claimed handles the result of a claim.
func (e *Engine) claimed(w *Waiter, t *try) {
	if t.err == nil {
		w.unready = false
		e.onlyLiving(t)
	}
	lock := t.found(w)
	switch {
	case w.ended:
		e.discard(w, t)
	case t.err != nil:
		e.storeFailed(w, t.err)
		e.after(retryPause, func() { e.claim(w) })
	case lock != nil && w.Conn == nil && !w.tried:
		e.refuse(w, store.ErrHeld, lock) // it is of an earlier request
	case len(t.locks) > 0:
		e.grantFound(w, t)
	default:
		e.offerAll(w)
	}
}

// storeFailed handles an error of the store that is not about the name. A waiter whose error will
// pass keeps its place.
func (e *Engine) storeFailed(w *Waiter, err error) {
	if unknownOutcome(err) {
		w.unready, w.pure = true, false
	}
	if isUnavailable(err) && w.Wait {
		w.queued = true
		return
	}
	e.refuse(w, err, nil)
}

// settle lets a cancel, or the shutdown, go on that has waited for a store call.
func (e *Engine) settle(w *Waiter) {
	if e.closing && w.Conn == nil && w.idle() {
		e.refuse(w, ErrClosing, nil)
	}
	if w.done != nil && w.idle() {
		done := w.done
		w.done = nil
		done()
	}
}

// Leave ends the wait of an acquire over HTTP: unless it is granted by a store call that is under
// way, it is refused with store.ErrHeld.
func (e *Engine) Leave(w *Waiter) {
	e.do(func() {
		if w.ended || !w.Wait {
			return
		}
		e.recount(w, -1)
		w.Wait = false
		e.recount(w, 1)
		switch {
		case !w.idle():
		case w.unready:
			e.claim(w)
		default:
			e.refuseHeld(w, w.places[0].queue, nil)
		}
	})
}

// Abandon ends an acquire over HTTP whose client is gone. Nothing more is told to its sink. A lock
// that was or will be granted is deleted, unless the client gave a mark, by which it may have found
// the lock.
func (e *Engine) Abandon(w *Waiter) {
	e.do(func() {
		switch {
		case !w.ended:
			e.abandon(w)
		case w.made && w.lock != nil:
			e.remove(w.lock)
		}
	})
}

// abandon ends a waiter that nobody wants to be granted any more.
func (e *Engine) abandon(w *Waiter) {
	w.undo = w.made || w.Conn != nil
	e.finish(w)
}

// Cancel ends the acquire with that mark: when done is called with nil, no lock of the mark exists,
// and none will be created in the next store.ClaimTime. Where an outcome may be unknown the store
// keeps the mark in mind. Done is called without the mutex.
func (e *Engine) Cancel(c *Conn, owner, mark string, done func(error)) {
	e.do(func() {
		key := markKey{owner, mark}
		w := e.marks[key]
		id := c.granted[key]
		switch {
		case w != nil && w.Conn == c && w.pure:
			w.undo = true
			e.finish(w)
			w.done = func() { e.cancelPure(w, done) }
			e.settle(w)
		case w == nil && id != "":
			e.forget(id)
			e.deleteKnown(id, owner, done)
		default:
			switch {
			case w == nil:
			case w.Conn == c:
				e.finish(w)
			default:
				e.refuse(w, store.ErrCancelled, nil)
			}
			e.cancelMark(key, done)
		}
	})
}

// cancelPure ends the cancel of a waiter whose mark was used nowhere else.
func (e *Engine) cancelPure(w *Waiter, done func(error)) {
	switch {
	case w.unready:
		e.cancelMark(w.key, done)
	case w.lock != nil:
		e.deleteKnown(w.lock.ID, w.key.owner, done)
	default:
		e.later(func() { done(nil) })
	}
}

// deleteKnown deletes a lock that may be gone already.
func (e *Engine) deleteKnown(id, owner string, done func(error)) {
	e.release(nil, id, owner, func(_ store.Lock, err error) {
		if errors.Is(err, store.ErrGone) {
			err = nil
		}
		done(err)
	})
}

// cancelMark cancels a mark in the store.
func (e *Engine) cancelMark(key markKey, done func(error)) {
	var locks []store.Lock
	var err error
	e.call(func() {
		err = e.guarded(func() (err error) {
			locks, err = e.store.Cancel(context.Background(), key.owner, key.mark)
			return err
		})
	}, func() {
		for i := range locks {
			e.deleted(&locks[i], key.owner, nil)
		}
		e.later(func() { done(err) })
	})
}

// undoMark cancels the mark that the engine made for an acquire, now or when the store is back. Its
// client does not know of a lock that there may be.
func (e *Engine) undoMark(key markKey) {
	e.cancelMark(key, func(err error) {
		if err != nil {
			e.do(func() { e.after(retryPause, func() { e.undoMark(key) }) })
		}
	})
}

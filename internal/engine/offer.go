package engine

import (
	"context"
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// offerAgain is the time after the last offer of a name when a new waiter asks the store again.
const offerAgain = time.Second

// offerAll offers the names of a waiter that has joined, or that can be served again.
func (e *Engine) offerAll(w *Waiter) {
	for _, p := range w.places {
		q := p.queue
		if p.at == nil || w.ended || !w.idle() {
			continue
		}
		switch {
		case q.busy: // the end of the call decides
			w.queued = true
		case q.retrying && !w.patient():
			e.refuse(w, store.ErrUnavailable, nil)
		case q.holder == nil || time.Since(q.tried) > offerAgain:
			e.offer(q)
			w.queued = w.queued || w.idle() && !w.ended // another is offered it
		case !w.patient():
			e.refuseHeld(w, q, nil)
		default:
			w.queued = true
			e.progress(p)
		}
	}
	e.placed(w)
}

// offer offers a name that may be free to the first who can have it.
func (e *Engine) offer(q *queue) {
	if q.busy {
		q.again = true
		return
	}
	if e.closing || q.retrying || e.queues[q.name] != q {
		return
	}
	if time.Now().Before(q.holdOff) || q.reserved != nil {
		e.refuseFree(q)
		return
	}
	w, plain := e.first(q, q.holder == nil)
	switch {
	case plain != nil && q.holder == nil:
		e.reserve(q, plain)
		e.refuseFree(q)
		return
	case w == nil:
		e.setHolder(q, nil) // nobody can find out: the next waiter does
		e.free(q)
		return
	}
	t := e.begin(q, w)
	e.call(func() { t.create(e) }, func() { e.tried(q, w, t) })
}

// tried handles the result of an offer, or of the second half of a hand-over.
func (e *Engine) tried(q *queue, w *Waiter, t *try) {
	w.calling = nil
	if t.unready && t.claimed != 0 {
		w.New.Claim, w.unready = t.claimed, false
	}
	e.onlyLiving(t)
	switch {
	case t.err == nil && w.ended:
		e.createdInVain(q, w, t)
	case t.err == nil && len(t.locks) > 0:
		e.grantFound(w, t)
	case t.err == nil && t.lock.ID == "":
		q.again = true // the lock of the mark that was found is gone
	case t.err == nil:
		e.granted(w, &t.lock, t.seen, true)
	case errors.Is(t.err, store.ErrHeld):
		e.held(q, w, &t.lock)
	case isUnavailable(t.err):
		e.unavailable(q, w, t.err)
	default:
		e.refuse(w, t.err, nil)
		q.again = true
	}
	e.settle(w)
	q.busy = false
	if q.again || q.holder == nil {
		e.offer(q)
	}
	e.changed(q)
	e.tidy(q)
}

// granted ends a waiter with its lock. Direct: the lock was created by the call that has just
// ended.
func (e *Engine) granted(w *Waiter, lock *store.Lock, seen uint64, direct bool) {
	if direct {
		e.created(lock)
	} else {
		e.sweeper.expect(lock, e.Grace)
	}
	w.lock = lock
	q := e.queueOf(lock.Name)
	e.tidy(q)
	sink := e.sink(w)
	e.finish(w)
	if q.dead(lock) {
		e.publish(store.EventDeleted, lock)
		if sink != nil {
			e.tell(sink).Granted(w, lock, seen)
			sink.Deleted(lock, "")
		}
		return
	}
	if sink != nil && w.Conn != nil {
		key := w.key
		if !w.pure {
			key = markKey{}
		} else {
			w.Conn.granted[key] = lock.ID
		}
		e.hold(w.Conn, lock, key)
	}
	if sink != nil {
		e.tell(sink).Granted(w, lock, seen)
	}
	e.setHolder(q, lock)
	q.lapsed = false
	e.held(q, nil, lock)
}

// grantFound ends a waiter with the lock of its mark.
func (e *Engine) grantFound(w *Waiter, t *try) {
	if lock := t.found(w); lock != nil {
		e.granted(w, lock, 0, false)
		return
	}
	e.refuse(w, ErrMarkInUse, &t.locks[0])
}

// held records the lock that holds a name; its ID is "" if it is not known. W is the waiter to
// which the name was offered, or nil.
func (e *Engine) held(q *queue, w *Waiter, lock *store.Lock) {
	e.setHolder(q, lock)
	for _, other := range q.impatient() {
		if other != w && !other.arrived.Before(q.tried) {
			e.refuseHeld(other, q, nil) // it came after the store had looked
		} else {
			e.refuseHeld(other, q, lock)
		}
	}
	if w != nil && !w.ended {
		w.queued = true
		for _, p := range w.places {
			if p.queue == q {
				e.progress(p)
			}
		}
		e.offerAll(w)
	}
	e.changed(q)
}

// refuseHeld refuses a name to a waiter that does not wait: the acquire, if it has no other. Lock
// holds the name; nil: the store is asked for it.
func (e *Engine) refuseHeld(w *Waiter, q *queue, lock *store.Lock) {
	var here *place
	others := false
	for _, p := range w.places {
		switch {
		case p.queue == q:
			here = p
		case p.at != nil:
			others = true
		}
	}
	switch {
	case here.at == nil:
	case others:
		e.leave(here)
		e.offerAll(w)
	case lock == nil:
		e.askHolder(w, q)
	default:
		err := store.ErrHeld
		if w.excess {
			err = ErrFull
		}
		e.keepRank(q, w)
		e.refuse(w, err, lock)
	}
}

// refuseFree refuses those who do not wait a name that is free, but not for them.
func (e *Engine) refuseFree(q *queue) {
	for _, w := range q.impatient() {
		q.refused = q.refused || w.Conn == nil
		e.refuseHeld(w, q, &store.Lock{})
	}
}

// askHolder refuses a waiter with the lock that holds the name by the store. If there is none any
// more the name is offered again.
func (e *Engine) askHolder(w *Waiter, q *queue) {
	w.asking = true
	before := q.holder
	var lock store.Lock
	var err error
	e.call(func() {
		err = e.guarded(func() (err error) {
			lock, err = e.store.Holder(context.Background(), q.name)
			return err
		})
	}, func() {
		w.asking = false
		switch {
		case w.ended:
		case errors.Is(err, store.ErrGone) && before != nil && q.holder == before:
			e.setHolder(q, nil)
			e.offerAll(w)
		default:
			e.refuseHeld(w, q, &lock)
		}
		e.settle(w)
		if q.holder == nil {
			e.offer(q) // the waiter was passed over
		}
		e.tidy(q)
	})
}

// createdInVain handles a lock that was created, or found, for a waiter that has ended.
func (e *Engine) createdInVain(q *queue, w *Waiter, t *try) {
	if t.lock.ID != "" {
		e.created(&t.lock)
		if !q.dead(&t.lock) {
			e.setHolder(q, &t.lock)
		}
	}
	e.discard(w, t)
}

// discard deletes what was created, or found, for a waiter that has ended.
func (e *Engine) discard(w *Waiter, t *try) {
	if !w.undo || t.err != nil || e.marks[w.key] != nil {
		return // or another acquire with the mark finds the lock
	}
	if t.lock.ID != "" {
		t.locks = append(t.locks, t.lock)
	}
	for i := range t.locks {
		if w.done != nil {
			w.lock = &t.locks[i] // the cancel deletes it
			continue
		}
		e.remove(&t.locks[i])
	}
}

// remove deletes a lock that its client does not know of, now or when the store is back.
func (e *Engine) remove(lock *store.Lock) {
	how := store.Ending{How: store.Cancelled, By: lock.Owner}
	e.release(nil, lock.ID, how, func(_ *store.Lock, err error) {
		if err != nil && !errors.Is(err, store.ErrGone) {
			e.later(func() {
				e.Log.Warn("cannot delete a lock whose client is gone, trying again",
					"lock", lock.Name, "id", lock.ID, "error", err)
			})
			e.after(retryPause, func() { e.remove(lock) })
		}
	})
}

// release deletes a lock, and grants its name to the first waiter in one step where that is known.
// End is called under the mutex.
func (e *Engine) release(c *Conn, id string, how store.Ending, end func(*store.Lock, error)) {
	q := e.byHolder[id]
	if q == nil || q.busy || q.retrying || q.reserved != nil || e.heldAtStart(id) {
		e.delete(c, id, how, end)
		return
	}
	w, _ := e.first(q, true)
	if w == nil {
		e.delete(c, id, how, end)
		return
	}
	h := handOver{try: e.begin(q, w), id: id, conn: c, how: how}
	e.call(func() { h.run(e) }, func() {
		h.ended(e, q, w)
		end(&h.deleted, h.err)
	})
}

// ended handles the results.
func (h *handOver) ended(e *Engine, q *queue, w *Waiter) {
	switch {
	case h.err == nil:
		q.sawDeleted(&h.deleted)
		e.gone(&h.deleted, h.how.By, h.conn)
		e.setHolder(q, nil)
	case errors.Is(h.err, store.ErrGone):
		e.lost(h.id)
	}
	if !h.free {
		e.tried(q, w, h.try)
		return
	}
	w.calling = nil
	if h.unready && h.claimed != 0 {
		w.New.Claim = h.claimed
	}
	if h.unsure {
		e.sweeper.within(maxSweepPause) // as after an unknown outcome
		w.unready, w.pure = true, false
	}
	e.settle(w)
	if w.ended && w.undo {
		e.undoMark(w.key)
	}
	q.busy = false
	e.offer(q)
	e.tidy(q)
}

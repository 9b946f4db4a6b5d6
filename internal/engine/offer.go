package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	retryPause = time.Second // between two offers of a name while the store is unavailable
	offerAgain = time.Second // after the last offer a new waiter asks the store again

	// holdOff is for how long, from the engine's start, nobody is granted a name that was held when
	// it started. Those who waited come back meanwhile.
	holdOff = 2 * time.Second
)

// try is a store call for a waiter, and its result.
type try struct {
	in      store.NewLock
	w       *Waiter
	unready bool
	seen    uint64

	claimed uint64
	locks   []store.Lock // of the mark, as the claim found them
	lock    store.Lock   // what was created, or the holder
	err     error
}

// found returns the lock of the mark that the waiter can have, or nil.
func (t *try) found(w *Waiter) *store.Lock {
	for i := range t.locks {
		if w.mayHave(t.locks[i].Name) {
			return &t.locks[i]
		}
	}
	return nil
}

// claim claims the mark of a waiter. Over HTTP one mark may have been used for several names: the
// locks of the others do not count.
func (t *try) claim(e *Engine, w *Waiter) {
	t.err = e.guarded(func() (err error) {
		t.claimed, t.locks, err = e.store.Claim(context.Background(), w.key.owner, w.key.mark)
		return err
	})
	if w.Conn == nil {
		t.locks = slices.DeleteFunc(t.locks, func(l store.Lock) bool { return !w.mayHave(l.Name) })
	}
}

// ready claims the mark if that is necessary, and reports whether a create should follow.
func (t *try) ready(e *Engine) bool {
	if !t.unready {
		return true
	}
	t.claim(e, t.w)
	t.in.Claim = t.claimed
	return t.err == nil && len(t.locks) == 0
}

// create makes the store call of an offer.
func (t *try) create(e *Engine) {
	if !t.ready(e) {
		return
	}
	t.err = e.guarded(func() (err error) {
		t.lock, err = e.store.Create(context.Background(), t.in)
		return err
	})
}

// begin begins a try for the first waiter of a queue.
func (e *Engine) begin(q *queue, w *Waiter) *try {
	q.busy, q.again, q.tried = true, false, time.Now()
	w.calling = q
	t := &try{in: w.New, w: w, unready: w.unready}
	if w.Conn != nil {
		t.seen = w.Conn.seen.Load()
	}
	t.in.ID, t.in.Name = e.NewID(), q.name
	if w.Wait {
		t.in.Waited = time.Since(e.started) - w.places[0].rank
	}
	if !t.in.Leased {
		t.in.TTL = createdTTL
		if w.queued && w.Wait {
			t.in.TTL = grantedTTL
		}
	}
	w.tried = true
	return t
}

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

// first returns the first waiter of a queue that can have its name now, or the plain client whose
// turn it is, or neither. Unless the name is free it is the turn of no plain client.
func (e *Engine) first(q *queue, free bool) (w *Waiter, plain *place) {
	now := time.Now()
	for p := range q.all() {
		switch {
		case p.w != nil:
			if e.servable(p.w, now) {
				return p.w, nil
			}
		case free && !q.lapsed:
			return nil, p
		case plain == nil:
			plain = p
		}
	}
	return nil, plain
}

// servable reports whether a waiter can be granted a lock now.
func (e *Engine) servable(w *Waiter, now time.Time) bool {
	switch {
	case !w.idle():
		return false
	case w.Conn == nil:
		return true
	case w.Conn.closed:
		return w.Conn.leaving
	case !w.Conn.silent(now.Sub(e.started), w.New.TTL):
		return true
	}
	w.Conn.passed.Store(true) // before the second look, so that Heard does not miss it
	return !w.Conn.silent(now.Sub(e.started), w.New.TTL)
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

// onlyLiving drops the locks of a mark that are known to be gone.
func (e *Engine) onlyLiving(t *try) {
	t.locks = slices.DeleteFunc(t.locks, func(lock store.Lock) bool {
		q := e.queues[lock.Name]
		return q != nil && q.dead(&lock)
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

// unavailable handles an offer that failed as the store is unavailable. All names of the waiter are
// offered again: meanwhile it was passed over.
func (e *Engine) unavailable(q *queue, w *Waiter, err error) {
	switch {
	case !w.ended:
		e.storeFailed(w, err)
	case unknownOutcome(err):
		w.unready = true
		if w.undo && w.done == nil && e.marks[w.key] == nil {
			e.undoMark(w.key)
		}
	}
	e.retryLater(q)
	for _, p := range w.places {
		if p.at != nil {
			e.retryLater(p.queue)
		}
	}
	for _, other := range q.impatient() {
		e.refuse(other, err, nil)
	}
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

// grantFound ends a waiter with the lock of its mark.
func (e *Engine) grantFound(w *Waiter, t *try) {
	if lock := t.found(w); lock != nil {
		e.granted(w, lock, 0, false)
		return
	}
	e.refuse(w, ErrMarkInUse, &t.locks[0])
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
		e.hold(w.Conn, lock.ID, key)
	}
	if sink != nil {
		e.tell(sink).Granted(w, lock, seen)
	}
	e.setHolder(q, lock)
	q.lapsed = false
	e.held(q, nil, lock)
}

// held records the lock that holds a name; its ID is "" if it is not known. W is the waiter to
// which the name was offered, or nil.
func (e *Engine) held(q *queue, w *Waiter, lock *store.Lock) {
	e.setHolder(q, lock)
	for _, other := range q.impatient() {
		e.refuseHeld(other, q, lock)
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

// refuseFree refuses those who do not wait a name that is free, but not for them.
func (e *Engine) refuseFree(q *queue) {
	for _, w := range q.impatient() {
		q.refused = q.refused || w.Conn == nil
		e.refuseHeld(w, q, &store.Lock{})
	}
}

// free handles a name that nobody has who could have it now.
func (e *Engine) free(q *queue) {
	if q.refused && q.holder == nil && q.last != nil {
		e.publish(store.EventDeleted, q.last)
	}
	q.refused = false
}

// retryLater offers the name again soon: the store is unavailable.
func (e *Engine) retryLater(q *queue) {
	if q.retrying {
		return
	}
	q.retrying = true
	e.after(retryPause, func() {
		q.retrying = false
		e.offer(q)
		e.tidy(q)
	})
}

// created records a lock that this server has created.
func (e *Engine) created(lock *store.Lock) {
	if e.fresh != nil {
		e.fresh[lock.ID] = struct{}{}
	}
	e.sweeper.expect(lock, e.Grace)
	e.publish(store.EventCreated, lock)
}

// deleted records a lock that is gone, and offers its name. By is the name of the key, or "". The
// connection that released it is not told.
func (e *Engine) deleted(lock *store.Lock, by string, releaser *Conn) {
	e.gone(lock, by, releaser)
	q := e.queues[lock.Name]
	if q == nil && e.fresh == nil {
		return
	}
	if e.fresh != nil {
		if _, fresh := e.fresh[lock.ID]; !fresh {
			q = e.queueOf(lock.Name)
			q.holdOff = e.started.Add(holdOff)
			e.after(time.Until(q.holdOff), func() { e.offer(q); e.tidy(q) })
		}
	}
	if q != nil {
		q.sawDeleted(lock)
		if q.holder == nil || q.holder.FencingToken <= lock.FencingToken {
			e.setHolder(q, nil)
			e.offer(q)
		}
		e.tidy(q)
	}
}

// lost records that the store has no lock with that id.
func (e *Engine) lost(id string) {
	e.forget(id)
	if q := e.byHolder[id]; q != nil {
		e.setHolder(q, nil)
		e.offer(q)
		e.tidy(q)
	}
}

// gone tells those whom it concerns that a lock is gone.
func (e *Engine) gone(lock *store.Lock, by string, releaser *Conn) {
	e.publish(store.EventDeleted, lock)
	if c := e.forget(lock.ID); c != nil && c != releaser && !c.closed {
		e.tell(c.sink).Deleted(lock, by)
	}
}

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
	key     markKey
	unready bool
	seen    uint64
	conn    *Conn

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

func (t *try) claim(e *Engine, key markKey) {
	t.err = e.guarded(func() (err error) {
		t.claimed, t.locks, err = e.store.Claim(context.Background(), key.owner, key.mark)
		return err
	})
}

// ready claims the mark if that is necessary, and reports whether a create should follow.
func (t *try) ready(e *Engine) bool {
	if !t.unready {
		return true
	}
	t.claim(e, t.key)
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
	t := &try{in: w.New, key: w.key, unready: w.unready, conn: w.Conn}
	if w.Conn != nil {
		t.seen = w.Conn.seen.Load()
	}
	t.in.ID, t.in.Name = e.NewID(), q.name
	t.in.Waited = time.Since(e.started) - w.places[0].rank
	if !t.in.Leased {
		t.in.TTL = createdTTL
		if w.queued {
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
		case q.holder == nil || time.Since(q.tried) > offerAgain:
			e.offer(q)
		case !w.Wait || w.excess:
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
	w, plain := e.first(q)
	switch {
	case plain != nil:
		e.reserve(q, plain)
		return
	case w == nil:
		e.free(q)
		return
	}
	t := e.begin(q, w)
	e.call(func() { t.create(e) }, func() { e.tried(q, w, t) })
}

// first returns the first waiter of a queue that can have its name now, or the plain client whose
// turn it is, or neither.
func (e *Engine) first(q *queue) (w *Waiter, plain *place) {
	now := time.Now()
	for p := range q.all() {
		switch {
		case p.w != nil:
			if e.servable(p.w, now) {
				return p.w, nil
			}
		case !p.until.After(now):
			q.remove(p)
		case !q.lapsed:
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
		return false
	case w.Conn.silent(now.Sub(e.started), w.New.TTL):
		w.Conn.passed.Store(true)
		return false
	}
	return true
}

// tried handles the result of an offer, or of the second half of a hand-over.
func (e *Engine) tried(q *queue, w *Waiter, t *try) {
	w.calling = nil
	if t.unready && t.claimed != 0 {
		w.New.Claim, w.unready = t.claimed, false
	}
	switch {
	case w.ended && t.err == nil:
		if len(t.locks) == 0 {
			e.created(&t.lock)
			e.setHolder(q, &t.lock)
		}
		e.discard(w, t)
	case t.err == nil && len(t.locks) > 0:
		e.grantFound(w, t)
	case t.err == nil:
		e.granted(w, &t.lock, t.seen, true)
	case errors.Is(t.err, store.ErrHeld):
		e.held(q, w, &t.lock)
	case isUnavailable(t.err):
		if w.ended && w.made && unknownOutcome(t.err) {
			e.undoMark(w.key)
		}
		if w.ended && unknownOutcome(t.err) {
			w.unready = true
		} else {
			e.storeFailed(w, t.err)
		}
		e.retryLater(q)
	default:
		e.refuse(w, t.err, nil)
		q.again = true
	}
	e.settle(w)
	q.busy = false
	if q.again {
		e.offer(q)
	}
	e.changed(q)
	e.tidy(q)
}

// discard deletes what was created, or found, for a waiter that has ended.
func (e *Engine) discard(w *Waiter, t *try) {
	if !w.undo || t.err != nil {
		return
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
	sink := e.sink(w)
	e.finish(w)
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
	e.tidy(q)
}

// held records the lock that holds a name; its ID is "" if it is not known. W is the waiter to
// which the name was offered, or nil.
func (e *Engine) held(q *queue, w *Waiter, lock *store.Lock) {
	e.setHolder(q, lock)
	if w != nil && !w.ended && (!w.Wait || w.excess) {
		e.refuseHeld(w, q, lock)
	}
	if q.nowait > 0 {
		for p := range q.all() {
			if p.w != nil && !p.w.Wait && p.w.idle() && !p.w.unready {
				e.refuseHeld(p.w, q, lock)
			}
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
	i := slices.Index(w.Names, q.name)
	for _, p := range w.places {
		if p.queue != q && p.at != nil {
			if w.places[i].at != nil {
				q.remove(w.places[i])
			}
			e.offerAll(w)
			return
		}
	}
	end := func(lock *store.Lock) {
		err := store.ErrHeld
		if w.excess {
			err = ErrFull
		}
		if !w.ended {
			e.keepRank(q, w)
		}
		e.refuse(w, err, lock)
	}
	if lock != nil {
		end(lock)
		return
	}
	w.asking = true
	var found store.Lock // stays zero if there is none, or the store fails
	e.call(func() {
		_ = e.guarded(func() (err error) {
			found, err = e.store.Holder(context.Background(), q.name)
			return err
		})
	}, func() {
		w.asking = false
		end(&found)
		e.settle(w)
		e.offer(q)
		e.tidy(q)
	})
}

// refuseFree refuses those who do not wait a name that is free, but not for them.
func (e *Engine) refuseFree(q *queue) {
	if q.nowait == 0 {
		return
	}
	for p := range q.all() {
		if p.w != nil && !p.w.Wait && p.w.idle() && !p.w.unready {
			q.refused = q.refused || p.w.Conn == nil
			e.refuseHeld(p.w, q, &store.Lock{})
		}
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
		e.setHolder(q, nil)
		q.last = lock
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

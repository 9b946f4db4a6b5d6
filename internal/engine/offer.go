package engine

import (
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// offerAgain is the time after the last offer of a name when a new waiter asks the store again.
const offerAgain = time.Second

// The time for which a name is reserved for a waiter for all of several names.
const (
	reservation    = 10 * time.Second // twice as long after each lapse
	maxReservation = 5 * time.Minute
)

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
	if q.reserved != nil && q.reserved.w == nil {
		e.refuseFree(q)
		return
	}
	w, plain := e.first(q, q.holder == nil)
	if q.heldOff(w) {
		e.refuseFree(q)
		return
	}
	if q.reserved != nil && q.reserved.w != w {
		q.reserved = nil // one that comes before has come, or the connection has broken
	}
	switch {
	case plain != nil && q.holder == nil:
		e.reserve(q, plain)
		e.refuseFree(q)
		return
	case w == nil:
		e.setHolder(q, nil) // nobody can find out: the next waiter does
		e.free(q)
		return
	case w.All:
		e.offerEvery(q, w)
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
	case t.err == nil:
		e.createdOne(q, w, t)
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
	e.callEnded(q)
}

// callEnded offers a name whose store call has ended, unless it is known to be held. Then those
// that do not wait are refused, if they are still there: the call may have been for a waiter that
// has ended meanwhile, and nothing else would end them while the lock is held.
func (e *Engine) callEnded(q *queue) {
	if q.again || q.holder == nil {
		e.offer(q)
	} else {
		for _, w := range q.impatient() {
			e.refuseHeld(w, q, nil)
		}
	}
	e.changed(q)
	e.tidy(q)
}

// createdOne handles the lock that was created, or found.
func (e *Engine) createdOne(q *queue, w *Waiter, t *try) {
	switch {
	case w.ended:
		e.createdInVain(q, w, t)
	case len(t.locks) > 0:
		lock := t.found(w)
		q.again = q.again || lock == nil || lock.Name != q.name // nobody has asked for this name
		e.grantFound(w, t)
	case t.lock.ID == "":
		q.again = true // the lock of the mark that was found is gone
	default:
		e.granted(w, []store.Lock{t.lock}, t.seen, true)
	}
}

// granted ends a waiter with its lock, or its locks. Direct: they were created by the call that has
// just ended.
func (e *Engine) granted(w *Waiter, locks []store.Lock, seen uint64, direct bool) {
	w.lock = &locks[0]
	sink := e.sink(w)
	for _, p := range w.places {
		if p.queue.reserved == p {
			p.queue.reserved = nil
		}
	}
	e.finish(w, observe.Granted)
	for i := range locks {
		lock := &locks[i]
		if direct {
			e.created(lock)
		} else {
			e.sweeper.expect(lock, e.Grace)
		}
		if q := e.queueOf(lock.Name); sink != nil && w.Conn != nil && !q.dead(lock) {
			key := markKey{}
			if w.pure {
				key = w.key
				w.Conn.granted[key] = lock.ID
			}
			e.hold(w.Conn, lock, key)
		}
	}
	if sink != nil {
		e.tell(sink).Granted(w, locks, seen)
	}
	for i := range locks {
		lock := &locks[i]
		q := e.queueOf(lock.Name)
		e.tidy(q)
		if q.dead(lock) {
			e.publish(store.EventDeleted, lock)
			if sink != nil {
				sink.Deleted(lock, "")
			}
			continue
		}
		e.setHolder(q, lock)
		q.lapsed, q.turn = false, false
		if time.Now().Before(q.holdOff) {
			q.grants++
		}
		e.held(q, nil, lock)
	}
}

// grantFound ends a waiter with the lock of its mark, or its locks.
func (e *Engine) grantFound(w *Waiter, t *try) {
	switch lock := t.found(w); {
	case lock == nil:
		e.refuse(w, ErrMarkInUse, &t.locks[0])
	case w.All:
		e.grantFoundAll(w, t)
	default:
		e.granted(w, []store.Lock{*lock}, 0, false)
	}
}

// held records the lock that holds a name; its ID is "" if it is not known. W is the waiter to
// which the name was offered, or nil. Where it sets no holder the caller offers the name again.
func (e *Engine) held(q *queue, w *Waiter, lock *store.Lock) {
	if lock.ID != "" && q.dead(lock) { // it was deleted after the store had looked
		e.setHolder(q, nil)
		return
	}
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
		case p.at != nil && !w.All:
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
	e.call(func() { lock, err = e.storeHolder(q.name) }, func() {
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

// remove deletes a lock that its client does not know of, now or when the store is back. Until then
// those who do not wait for its name are refused.
func (e *Engine) remove(lock *store.Lock) {
	how := store.Ending{How: store.Cancelled, By: lock.Owner}
	e.release(nil, lock.ID, how, func(_ *store.Lock, err error) {
		if err != nil && !errors.Is(err, store.ErrGone) {
			e.later(func() {
				e.Log.Warn("cannot delete a lock whose client is gone, trying again",
					"lock", lock.Name, "id", lock.ID, "error", err)
			})
			e.after(retryPause, func() { e.remove(lock) })
			if q := e.byHolder[lock.ID]; q != nil {
				e.refuseImpatient(q, err)
			}
		}
	})
}

// offerEvery offers a name to a waiter for all of several names that is the first. If it is the
// first of the others too, and all may be free, the locks are created together. If not, the name
// is reserved for it while the others are taken: for some time only, so that it does not
// deadlock with one who holds another of its names and waits for this one.
func (e *Engine) offerEvery(q *queue, w *Waiter) {
	if q.holder != nil {
		e.lookAgain(q)
		return
	}
	p := e.missing(w, q)
	if p == nil {
		e.createAll(w)
		return
	}
	if other := e.passedOver(q, w); other != nil {
		e.createAll(other)
		return
	}
	switch {
	case w.patient() && q.tried.IsZero():
		e.lookAgain(q) // its holder is told that it is wanted
	case w.patient():
		e.reserveFor(q, w)
	case !p.queue.busy: // else the end of the call decides
		e.refuseUnavailable(w, p.queue)
	}
}

// refuseUnavailable refuses a waiter that does not wait, as it cannot have that name.
func (e *Engine) refuseUnavailable(w *Waiter, q *queue) {
	switch {
	case q.retrying:
		e.refuse(w, store.ErrUnavailable, nil)
	case q.holder != nil:
		e.refuseHeld(w, q, nil) // the store knows its lease
	default:
		e.refuseHeld(w, q, &store.Lock{})
	}
}

// reserveFor reserves a name for a waiter for all of several names.
func (e *Engine) reserveFor(q *queue, w *Waiter) {
	p := w.placeIn(q)
	q.turn = false
	w.queued = true
	e.progress(p)
	e.refuseFree(q)
	if q.reserved == p {
		return
	}
	q.reserved = p
	length := min(reservation<<min(p.lapses, 8), maxReservation)
	p.until = time.Since(e.started) + length
	e.after(length, func() {
		if q.reserved == p && time.Since(e.started) >= p.until {
			q.reserved, q.lapsed, q.turn = nil, false, true // plain clients have their turn too
			p.passed = q.round
			p.lapses++
			q.endRound()
			e.offerSoon(q)
			e.tidy(q)
		}
	})
}

// createAll begins a try for all names of a waiter.
func (e *Engine) createAll(w *Waiter) {
	var t *try
	var all []store.NewLock
	for _, p := range w.places {
		if p.queue.reserved != p {
			p.queue.reserved = nil // for one that comes after it
		}
		t = e.begin(p.queue, w)
		all = append(all, t.in)
	}
	t.all = all
	e.call(func() { t.createAll(e) }, func() { e.triedAll(w, t) })
}

// triedAll handles the result.
func (e *Engine) triedAll(w *Waiter, t *try) {
	w.calling = nil
	if t.unready && t.claimed != 0 {
		w.New.Claim, w.unready = t.claimed, false
	}
	e.onlyLiving(t)
	again := false
	switch {
	case t.err == nil:
		again = e.createdAll(w, t)
	case errors.Is(t.err, store.ErrHeld):
		e.heldSome(w, t.created)
	case isUnavailable(t.err):
		e.unavailable(w.places[0].queue, w, t.err)
		for _, p := range w.places[1:] {
			e.offerLater(p.queue, t.err)
		}
	default:
		e.refuse(w, t.err, nil)
		again = true
	}
	e.settle(w)
	for _, p := range w.places {
		p.queue.busy = false
		p.queue.again = p.queue.again || again
	}
	for _, p := range w.places {
		e.callEnded(p.queue)
	}
}

// createdAll handles the locks that were created, or found. It reports whether there are none.
func (e *Engine) createdAll(w *Waiter, t *try) (none bool) {
	switch {
	case w.ended:
		e.createdAllInVain(w, t)
	case len(t.locks) > 0:
		e.grantFound(w, t)
	case t.created != nil:
		e.granted(w, t.created, t.seen, true)
	default:
		return true // the locks of the mark that were found are gone
	}
	return false
}

// heldSome records which of a waiter's names are held, or left to another server, which is then
// as good as a holder that is not known. The others are free.
func (e *Engine) heldSome(w *Waiter, holders []store.Lock) {
	for i, p := range w.places {
		if lock := &holders[i]; lock.Name != "" {
			e.held(p.queue, w, lock)
		} else {
			e.setHolder(p.queue, nil)
		}
	}
	w.queued = true
}

// grantFoundAll ends a waiter for all of several names with the locks of its mark. If some of them
// are gone, it gives the others up and waits for all.
func (e *Engine) grantFoundAll(w *Waiter, t *try) {
	var locks []store.Lock
	for _, name := range w.Names {
		for i := range t.locks {
			if t.locks[i].Name == name {
				locks = append(locks, t.locks[i])
			}
		}
	}
	if len(locks) == len(w.Names) {
		e.granted(w, locks, 0, false)
		return
	}
	for i := range locks {
		e.setHolder(e.queueOf(locks[i].Name), &locks[i])
		e.remove(&locks[i])
	}
	e.placed(w)
}

// createdAllInVain handles locks that were created, or found, for a waiter that has ended.
func (e *Engine) createdAllInVain(w *Waiter, t *try) {
	for i := range t.created {
		lock := &t.created[i]
		e.created(lock)
		if q := e.queueOf(lock.Name); !q.dead(lock) {
			e.setHolder(q, lock)
		}
	}
	t.locks = append(t.locks, t.created...)
	e.discard(w, t)
}

// lookAgain asks the store who holds a name.
func (e *Engine) lookAgain(q *queue) {
	q.busy, q.again, q.tried = true, false, time.Now()
	var lock store.Lock
	var err error
	e.call(func() { lock, err = e.storeHolder(q.name) }, func() {
		switch {
		case err == nil && !q.dead(&lock):
			e.held(q, nil, &lock)
		case err == nil, errors.Is(err, store.ErrGone):
			e.setHolder(q, nil)
		default:
			e.offerLater(q, err)
		}
		q.busy = false
		e.callEnded(q)
	})
}

// release deletes a lock, and grants its name to the first waiter in one step where that is known.
// End is called under the mutex.
func (e *Engine) release(c *Conn, id string, how store.Ending, end func(*store.Lock, error)) {
	q := e.byHolder[id]
	if q == nil || q.busy || q.retrying || q.reserved != nil || e.heldAtStart(id) ||
		time.Now().Before(q.holdOff) {
		e.delete(c, id, how, end)
		return
	}
	w, _ := e.first(q, true)
	if w == nil || w.All {
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

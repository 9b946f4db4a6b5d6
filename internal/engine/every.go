package engine

import (
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	reservation    = 10 * time.Second // twice as long after each lapse
	maxReservation = 5 * time.Minute
)

// offerEvery offers a name to a waiter for all of several names that is the first. If it is the
// first of the others too, and all may be free, the locks are created together. If not, the name
// is reserved for it while the others are not to be had: for some time only, so that it does not
// deadlock with one who holds another of its names and waits for this one.
func (e *Engine) offerEvery(q *queue, w *Waiter) {
	if q.holder != nil {
		e.lookAgain(q)
		return
	}
	for _, p := range w.places {
		if p.queue == q || e.available(p) {
			continue
		}
		switch {
		case w.patient() && q.tried.IsZero():
			e.lookAgain(q) // its holder is told that it is wanted
		case w.patient():
			e.reserveFor(q, w)
		case !p.queue.busy: // else the end of the call decides
			e.refuseUnavailable(w, p.queue)
		}
		return
	}
	e.createAll(w)
}

// available reports whether a waiter for all of several names could have the name of its place.
func (e *Engine) available(p *place) bool {
	q := p.queue
	if q.busy || q.retrying || q.holder != nil || time.Now().Before(q.holdOff) ||
		q.reserved != nil && q.reserved != p {
		return false
	}
	first, plain := e.first(q, true)
	return first == p.w && plain == nil
}

// refuseUnavailable refuses a waiter that does not wait, as it cannot have that name.
func (e *Engine) refuseUnavailable(w *Waiter, q *queue) {
	switch {
	case q.retrying:
		e.refuse(w, store.ErrUnavailable, nil)
	case q.holder != nil:
		e.refuseHeld(w, q, q.holder)
	default:
		e.refuseHeld(w, q, &store.Lock{})
	}
}

// reserveFor reserves a name for a waiter for all of several names.
func (e *Engine) reserveFor(q *queue, w *Waiter) {
	var p *place
	for _, p = range w.places {
		if p.queue == q {
			break
		}
	}
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
			q.reserved, q.passed = nil, p
			p.lapses++
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
	case t.err == nil && w.ended:
		e.createdAllInVain(w, t)
	case t.err == nil && len(t.locks) > 0:
		e.grantFound(w, t)
	case t.err == nil && t.created == nil:
		again = true // the locks of the mark that were found are gone
	case t.err == nil:
		e.granted(w, t.created, t.seen, true)
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
	}
	for _, p := range w.places {
		q := p.queue
		if again || q.again || q.holder == nil {
			e.offer(q)
		}
		e.changed(q)
		e.tidy(q)
	}
}

// heldSome records which of a waiter's names are held. If the store names no holder, another server
// is to have one of them.
func (e *Engine) heldSome(w *Waiter, holders []store.Lock) {
	known := false
	for i := range holders {
		known = known || holders[i].ID != ""
	}
	for i, p := range w.places {
		if lock := &holders[i]; lock.ID != "" || !known {
			e.held(p.queue, w, lock)
			continue
		}
		e.setHolder(p.queue, nil)
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
		case isUnavailable(err):
			e.retryLater(q)
		case err == nil, errors.Is(err, store.ErrGone):
			e.setHolder(q, nil)
		}
		q.busy = false
		if q.again || q.holder == nil {
			e.offer(q)
		}
		e.tidy(q)
	})
}

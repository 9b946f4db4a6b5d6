package engine

import (
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

const maxShift = 2 * time.Second // of a rank, by clocks that differ

// Acquire asks for a lock of any of the names, or for locks of all of them. Its end comes to the
// sink: [Sink.Granted], or [Sink.Refused] with an error of the store or of this package;
// store.ErrHeld if the waiter does not wait. A lock that is not leased gets a TTL of the engine's
// own.
//
// On a connection an acquire is identified by its mark. One with the mark of an open one takes its
// place; one that says that it comes again gets the lock of the mark if there is one. Over HTTP a
// mark is claimed too, but its lock is a holder like any other.
func (e *Engine) Acquire(w *Waiter) {
	e.do(func() {
		w.arrived = time.Now()
		switch {
		case e.closing && w.Conn != nil:
			w.ended = true // its client comes to the next server
		case e.closing:
			e.reject(w, ErrClosing)
		default:
			e.identify(w)
			e.enter(w)
		}
	})
}

// reject ends a waiter that has not joined.
func (e *Engine) reject(w *Waiter, err error) {
	e.observe(w, resultOf(err))
	w.ended = true
	if s := e.sink(w); s != nil {
		e.tell(s).Refused(w, err, nil)
	}
}

// identify sets a waiter's key. A plain client that has no mark gets one of the engine's own.
func (e *Engine) identify(w *Waiter) {
	w.pure = !w.Again && !w.All
	if !w.Again || len(w.Names) > 1 {
		w.Place = 0
	}
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
}

// enter lets a waiter join, unless there are too many or it is open on its connection already. It
// ends an open acquire with its mark.
func (e *Engine) enter(w *Waiter) {
	old := e.marks[w.key]
	switch {
	case old == nil:
		if err := e.full(w); err != nil {
			e.reject(w, err)
			return
		}
	case old.Conn != nil && old.Conn == w.Conn:
		if !slices.Equal(old.Names, w.Names) || old.All != w.All {
			e.reject(w, ErrMarkInUse)
			return
		}
		w.ended = true
		old.N = w.N
		e.follow(old, w.Progress)
		return
	default:
		if slices.Equal(old.Names, w.Names) {
			w.rank, w.arrival = old.places[0].rank, old.places[0].arrival
		}
		w.Again = true
	}
	e.marks[w.key] = w
	e.open++
	e.openOf[w.New.Owner]++
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
}

// full returns an error if too many acquires are open for one more.
func (e *Engine) full(w *Waiter) error {
	switch {
	case e.open >= 2*e.MaxWaiters:
		return ErrFull
	case w.MaxOpen > 0 && e.openOf[w.New.Owner] >= w.MaxOpen:
		return ErrTooManyOpen
	}
	return nil
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
	w.placing = len(w.Names) > 1
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
	e.finish(w, observe.Cancelled)
}

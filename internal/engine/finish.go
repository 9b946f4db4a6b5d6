package engine

import (
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

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

// refuse ends a waiter with an error.
func (e *Engine) refuse(w *Waiter, err error, holder *store.Lock) {
	if w.ended {
		return
	}
	if holder != nil && holder.ID == "" {
		holder = nil
	}
	if s := e.sink(w); s != nil {
		e.tell(s).Refused(w, err, holder)
	}
	e.finish(w, resultOf(err))
}

// finish removes a waiter for good. Nothing more is told to its sink. A lock that the engine may
// have created with a mark of its own, without knowing it, is deleted.
func (e *Engine) finish(w *Waiter, result observe.Result) {
	if w.ended {
		return
	}
	e.observe(w, result)
	w.ended = true
	e.unlink(w)
	e.open--
	if owner := w.New.Owner; e.openOf[owner] == 1 {
		delete(e.openOf, owner)
	} else {
		e.openOf[owner]--
	}
	if e.marks[w.key] == w {
		delete(e.marks, w.key)
	}
	if w.Conn != nil {
		delete(w.Conn.waiters, w)
	}
	if w.made && w.unready {
		e.undoMark(w.key)
	}
}

// observe reports the end of a waiter.
func (e *Engine) observe(w *Waiter, result observe.Result) {
	if e.Observer != nil {
		e.Observer.AcquireEnded(result, max(e.waited(w), 0))
	}
}

// waited returns how long a waiter has queued, before this request too. One that has no place has
// not.
func (e *Engine) waited(w *Waiter) time.Duration {
	if len(w.places) == 0 {
		return 0
	}
	return time.Since(e.started) - w.places[0].rank - time.Duration(w.Priority)*perPriority
}

// resultOf returns how an acquire ends that is refused with err.
func resultOf(err error) observe.Result {
	for _, r := range results {
		if errors.Is(err, r.err) {
			return r.result
		}
	}
	return observe.Failed
}

var results = []struct {
	err    error
	result observe.Result
}{
	{store.ErrHeld, observe.Held}, {store.ErrSuperseded, observe.Continued},
	{store.ErrCancelled, observe.Cancelled}, {store.ErrUnavailable, observe.Unavailable},
	{ErrFull, observe.Full}, {ErrTooManyOpen, observe.Full}, {ErrClosing, observe.Closing},
}

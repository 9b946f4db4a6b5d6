package engine

import (
	"errors"

	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Cancel ends the acquire with that mark: when done is called with nil, no lock of the mark exists,
// and none will be created in the next store.ClaimTime. Where an outcome may be unknown the store
// keeps the mark in mind. Done is called without the mutex.
func (e *Engine) Cancel(c *Conn, owner, mark string, done func(error)) {
	end := func(err error) { e.respond(c, func() { done(err) }) }
	e.do(func() {
		key := markKey{owner, mark}
		w := e.marks[key]
		id := c.granted[key]
		switch {
		case w != nil && w.Conn == c && w.pure:
			w.undo = true
			e.finish(w, observe.Cancelled)
			w.done = func() { e.cancelPure(w, end) }
			e.settle(w)
		case w == nil && id != "":
			e.forget(id)
			e.deleteKnown(id, owner, end)
		default:
			switch {
			case w == nil:
			case w.Conn == c:
				e.finish(w, observe.Cancelled)
			default:
				e.refuse(w, store.ErrCancelled, nil)
			}
			e.cancelMark(c, key, end)
		}
	})
}

// cancelPure ends the cancel of a waiter whose mark was used nowhere else.
func (e *Engine) cancelPure(w *Waiter, end func(error)) {
	switch {
	case w.unready:
		e.cancelMark(w.Conn, w.key, end)
	case w.lock != nil:
		e.deleteKnown(w.lock.ID, w.key.owner, end)
	default:
		end(nil)
	}
}

// deleteKnown deletes a lock that may be gone already.
func (e *Engine) deleteKnown(id, owner string, end func(error)) {
	how := store.Ending{How: store.Cancelled, By: owner}
	e.release(nil, id, how, func(_ *store.Lock, err error) {
		if errors.Is(err, store.ErrGone) {
			err = nil
		}
		end(err)
	})
}

package engine

import "gitlab.com/relukko/relukko-go/server/store"

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
	e.finish(w)
}

// finish removes a waiter for good. Nothing more is told to its sink. A lock that the engine may
// have created with a mark of its own, without knowing it, is deleted.
func (e *Engine) finish(w *Waiter) {
	if w.ended {
		return
	}
	w.ended = true
	e.unlink(w)
	e.open--
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

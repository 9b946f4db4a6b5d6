package engine

import (
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Waiter is one acquire. The fields that are exported are set by the caller of [Engine.Acquire].
type Waiter struct {
	Conn     *Conn  // nil for HTTP
	Sink     Sink   // for HTTP; else that of the connection
	N        uint64 // the number of the request, for the Sink
	Names    []string
	All      bool          // all of the names, not any one
	New      store.NewLock // without ID, Name, Claim and Waited. A mark is needed on connections
	Wait     bool          // while no name is free
	Progress bool          // calls of the Sink's Waiting
	Again    bool          // the mark may have been used before
	Priority int           // each is worth 10 min in the queue
	Waited   time.Duration // by the client's account, before this request

	key     markKey
	made    bool // the mark was made by the engine
	arrived time.Time
	rank    time.Duration // in the queues, since the engine's start: least first
	arrival uint64        // among equal ranks
	places  []*place      // one for each name, in their order
	plain   plainKey      // zero: not a plain client
	excess  bool          // it may not wait: there are too many

	calling *queue      // a create for it is under way, of this name
	asking  bool        // another store call for it is under way
	tried   bool        // a create was tried
	queued  bool        // it was not served at once
	unready bool        // its mark must be claimed before the next create
	pure    bool        // its mark was never used elsewhere, and no outcome was ever unknown
	ended   bool        // nothing more is told to the sink
	undo    bool        // a lock that is created for it must be deleted
	lock    *store.Lock // what it was granted, or what was created and must be deleted
	done    func()      // called once when no store call is under way
}

// markKey identifies an acquire.
type markKey struct{ owner, mark string }

// patient reports whether the waiter stays while no name is free.
func (w *Waiter) patient() bool { return w.Wait && !w.excess }

// Queued reports whether the waiter was not served at once. Only the methods of its Sink may call it.
func (w *Waiter) Queued() bool { return w.queued }

// idle reports whether no store call for the waiter is under way.
func (w *Waiter) idle() bool { return w.calling == nil && !w.asking }

// sink returns where the waiter's end is told, or nil if nobody wants to know.
func (e *Engine) sink(w *Waiter) Sink {
	switch {
	case w.Conn == nil:
		return w.Sink
	case w.Conn.closed || e.closing:
		return nil
	}
	return w.Conn.sink
}

// unlink removes a waiter from all queues.
func (e *Engine) unlink(w *Waiter) {
	for _, p := range w.places {
		if p.at != nil {
			e.leave(p)
		}
	}
}

// leave removes a place that is in its queue.
func (e *Engine) leave(p *place) {
	q := p.queue
	q.remove(p)
	e.recounted(q)
	e.changed(q)
	e.tidy(q)
}

// recount counts the places of a waiter that becomes another kind, before (-1) and after (1).
func (e *Engine) recount(w *Waiter, n int) {
	for _, p := range w.places {
		if p.at != nil {
			p.queue.count(p, n)
			e.recounted(p.queue)
		}
	}
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

// mayHave reports whether the waiter asks for that name.
func (w *Waiter) mayHave(name string) bool { return slices.Contains(w.Names, name) }

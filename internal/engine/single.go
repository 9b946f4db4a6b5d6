package engine

import "gitlab.com/relukko/relukko-go/server/store"

// Single is the [Sink] of one acquire of one name without progress: it keeps how that has ended.
// Make one with NewSingle.
type Single struct {
	Ended  chan struct{} // closed when the rest is set
	Lock   *store.Lock   // the new one; the holder if Err is store.ErrHeld
	Err    error
	Queued bool // the acquire has waited in a queue
}

// NewSingle returns the sink of an acquire that has not begun.
func NewSingle() *Single { return &Single{Ended: make(chan struct{})} }

// Granted implements [Sink].
func (s *Single) Granted(w *Waiter, locks []store.Lock, _ uint64) {
	s.Lock, s.Queued = &locks[0], w.queued
	close(s.Ended)
}

// Refused implements [Sink].
func (s *Single) Refused(w *Waiter, err error, holder *store.Lock) {
	s.Lock, s.Err, s.Queued = holder, err, w.queued
	close(s.Ended)
}

// A connection has the rest.
func (*Single) Waiting(*Waiter, int, *store.Lock) {}
func (*Single) Deleted(*store.Lock, string)       {}
func (*Single) Wanted(string, int)                {}
func (*Single) Flush()                            {}

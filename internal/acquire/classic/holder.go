package classic

import (
	"context"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const (
	askAfter   = 250 * time.Millisecond // a shorter wait is not reported, so needs no holder
	answerTime = time.Second            // for the response to a create whose lock was seen already
)

// holder is what a call knows of the lock that holds its name. If neither responses nor broadcasts
// say that, it asks the backend.
type holder struct {
	mark   string
	report func(*api.Lock, int)
	asker  interface{ ask() } // asks the backend

	mu     sync.Mutex
	mine   chan struct{} // signalled by isOwn; nil until it is needed
	lock   *api.Lock     // the last recorded lock of another holder
	own    bool          // the call's own lock holds the name
	over   bool          // the call has ended
	timer  *time.Timer   // asks the backend
	asking bool          // the timer runs
	wake   func()        // called by isOwn; may be nil

	create  int                // counts the creates that may queue on the server
	inQueue bool               // one of them is under way
	aborted bool               // breakOff has cancelled it
	abort   context.CancelFunc // cancels it
}

// is records and reports the lock that holds the name; nil changes nothing.
func (h *holder) is(lock *api.Lock) {
	if lock == nil {
		return
	}
	if bears(lock, h.mark) {
		h.isOwn()
		return
	}
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return
	}
	h.lock, h.own = copied(lock), false
	h.mu.Unlock()
	h.report(copied(lock), -1)
}

// isOwn records that the call's own lock holds the name. A create without a response made it.
func (h *holder) isOwn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own = true
	h.signal()
	if h.wake != nil {
		h.wake()
	}
	if n := h.create; h.inQueue {
		// To queue for the call's own lock is useless, unless the response is under way.
		time.AfterFunc(answerTime, func() { h.breakOff(n) })
	}
}

// signal makes ownSeen receive. The caller holds h.mu.
func (h *holder) signal() {
	if h.mine == nil {
		h.mine = make(chan struct{}, 1)
	}
	select {
	case h.mine <- struct{}{}:
	default:
	}
}

// ownSeen returns a channel that receives after isOwn was called.
func (h *holder) ownSeen() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mine == nil {
		h.mine = make(chan struct{}, 1)
	}
	return h.mine
}

// setAbort sets the function that cancels a create.
func (h *holder) setAbort(abort context.CancelFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.abort = abort
}

// queued records that a create begins that may queue on the server. It is cancelled if the call's
// own lock turns out to hold the name.
func (h *holder) queued() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.create++
	h.inQueue, h.aborted = true, false
}

// answered records the end of a create, and reports whether breakOff cancelled it.
func (h *holder) answered() (aborted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inQueue = false
	aborted, h.aborted = h.aborted, false
	return aborted
}

// breakOff cancels create n if it is still under way and the call's own lock still holds the name.
func (h *holder) breakOff(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inQueue && h.create == n && h.own {
		h.aborted = true
		h.abort()
	}
}

// isMine reports whether isOwn was called after the last other holder was recorded.
func (h *holder) isMine() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.own
}

// onOwn sets the function that isOwn calls, and calls it now if isMine. nil removes it.
func (h *holder) onOwn(wake func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wake = wake
	if h.own && wake != nil {
		wake()
	}
}

// known returns the last recorded lock, or nil.
func (h *holder) known() *api.Lock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return copied(h.lock)
}

// askOnce is askIn, but does nothing if askIn was ever called.
func (h *holder) askOnce(d time.Duration) {
	h.mu.Lock()
	asked := h.timer != nil
	h.mu.Unlock()
	if !asked {
		h.askIn(d)
	}
}

// askIn asks the backend after d, unless a question is due already.
func (h *holder) askIn(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over || h.asking:
		return
	case h.timer == nil:
		h.timer = time.AfterFunc(d, h.due)
	default:
		h.timer.Reset(d)
	}
	h.asking = true
}

func (h *holder) due() {
	h.mu.Lock()
	h.asking = false
	over := h.over
	h.mu.Unlock()
	if !over {
		h.asker.ask()
	}
}

// stop ends the questions and the reports.
func (h *holder) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.timer != nil {
		h.timer.Stop()
	}
}

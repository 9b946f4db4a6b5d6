package classic

import (
	"context"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const (
	askAfter   = 250 * time.Millisecond // a Lock that waits for less has nothing to report
	answerTime = time.Second            // for a lock that was granted to be answered
)

// holder is what a call knows of the lock that it waits for. It asks the backend
// where answers and broadcasts do not tell.
type holder struct {
	mark   string
	report func(*api.Lock)
	asker  interface{ ask() } // asks the backend

	mu     sync.Mutex
	mine   chan struct{} // signalled when own is set; made when it is needed
	lock   *api.Lock
	own    bool // the call's own lock was seen to hold the name
	over   bool
	timer  *time.Timer
	asking bool   // the timer runs
	wake   func() // called when the call's own lock is seen; may be nil

	create  int  // counts the creates that queue on the server
	inQueue bool // one is under way
	aborted bool // it was broken off
	abort   context.CancelFunc
}

// is records which lock holds the name; nil changes nothing.
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
	h.report(copied(lock))
}

// isOwn records that the call's own lock holds the name, made by a create of
// which it does not know the outcome.
func (h *holder) isOwn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own = true
	h.signal()
	if h.wake != nil {
		h.wake()
	}
	if n := h.create; h.inQueue {
		// No use to queue for it, unless its answer is just under way.
		time.AfterFunc(answerTime, func() { h.breakOff(n) })
	}
}

func (h *holder) signal() {
	if h.mine == nil {
		h.mine = make(chan struct{}, 1)
	}
	select {
	case h.mine <- struct{}{}:
	default:
	}
}

// ownSeen returns a channel that receives when the call's own lock is seen.
func (h *holder) ownSeen() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mine == nil {
		h.mine = make(chan struct{}, 1)
	}
	return h.mine
}

// setAbort sets what breaks a create off.
func (h *holder) setAbort(abort context.CancelFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.abort = abort
}

// queued records that a create begins that may queue on the server: it is broken
// off when the call's own lock turns out to hold the name.
func (h *holder) queued() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.create++
	h.inQueue, h.aborted = true, false
}

// answered records the end of a create, and reports whether it was broken off.
func (h *holder) answered() (aborted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inQueue = false
	aborted, h.aborted = h.aborted, false
	return aborted
}

// breakOff ends create n if it is still under way.
func (h *holder) breakOff(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inQueue && h.create == n && h.own {
		h.aborted = true
		h.abort()
	}
}

// isMine reports whether the call's own lock was seen to hold the name.
func (h *holder) isMine() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.own
}

// onOwn sets what is called when the call's own lock is seen.
func (h *holder) onOwn(wake func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wake = wake
	if h.own && wake != nil {
		wake()
	}
}

// known returns the lock as last recorded, or nil.
func (h *holder) known() *api.Lock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return copied(h.lock)
}

// askOnce is askIn unless the backend was asked before.
func (h *holder) askOnce(d time.Duration) {
	h.mu.Lock()
	asked := h.timer != nil
	h.mu.Unlock()
	if !asked {
		h.askIn(d)
	}
}

// askIn has the backend asked in d, unless it will be anyway.
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

// stop ends the asking and the reports.
func (h *holder) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.timer != nil {
		h.timer.Stop()
	}
}

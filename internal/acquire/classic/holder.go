package classic

import (
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const askAfter = 250 * time.Millisecond // a Lock that waits for less has nothing to report

// holder is what a call knows of the lock that it waits for. It asks the backend
// where answers and broadcasts do not tell.
type holder struct {
	mark   string
	report func(*api.Lock)
	ask    func()        // asks the backend
	mine   chan struct{} // signalled when the call's own lock turns out to hold the name

	mu     sync.Mutex
	lock   *api.Lock
	own    bool // the call's own lock was seen to hold the name
	over   bool
	timer  *time.Timer
	asking bool   // the timer runs
	wake   func() // called when the call's own lock is seen; may be nil
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
	select {
	case h.mine <- struct{}{}:
	default:
	}
	if h.wake != nil {
		h.wake()
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
		h.ask()
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

package classic

import (
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const askAfter = 250 * time.Millisecond // a shorter wait is not reported, so needs no holder

// holder is what a call knows of the lock that holds its name. If neither responses nor broadcasts
// say that, it asks the backend.
type holder struct {
	mark   string
	report func(*api.Lock)
	ask    func()        // asks the backend
	mine   chan struct{} // signalled by isOwn

	mu     sync.Mutex
	lock   *api.Lock
	own    bool        // the call's own lock holds the name
	over   bool        // the call has ended
	timer  *time.Timer // asks the backend
	asking bool        // the timer runs
	wake   func()      // called by isOwn; may be nil
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
	h.report(copied(lock))
}

// isOwn records that the call's own lock holds the name. A create without a response made it.
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
		h.ask()
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

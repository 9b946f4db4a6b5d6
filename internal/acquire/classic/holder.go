package classic

import (
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// askAfter is how long a call waits before it asks: a shorter wait is not reported.
const askAfter = 250 * time.Millisecond

// holder is what a call knows of the lock that holds its name. If neither responses nor broadcasts
// say that, it asks the backend.
type holder struct {
	report func(*api.Lock, int)
	asker  interface{ ask() } // asks the backend

	mu     sync.Mutex
	lock   *api.Lock   // the last recorded lock
	over   bool        // the call has ended
	timer  *time.Timer // asks the backend
	asking bool        // the timer runs
}

// is records and reports the lock that holds the name; nil changes nothing.
func (h *holder) is(lock *api.Lock) {
	if lock == nil {
		return
	}
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return
	}
	h.lock = acquire.Copied(lock)
	h.mu.Unlock()
	h.report(acquire.Copied(lock), -1)
}

// known returns the last recorded lock, or nil.
func (h *holder) known() *api.Lock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return acquire.Copied(h.lock)
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

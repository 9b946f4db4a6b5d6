package relukkotest

import (
	"context"
	"sync"
)

// A Hold parks requests; see [Server.Hold] and [Server.HoldReplies].
type Hold struct {
	mu       sync.Mutex
	parked   int
	changed  chan struct{} // closed, and replaced, when parked changes
	released chan struct{}
}

func newHold() *Hold {
	return &Hold{changed: make(chan struct{}), released: make(chan struct{})}
}

// Release ends the hold: what is parked goes on, and nothing is parked any more.
func (h *Hold) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isReleased() {
		close(h.released)
	}
}

// Parked returns how many requests are parked.
func (h *Hold) Parked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parked
}

// Await returns nil once at least n requests are parked at a time, or the cause
// of ctx when that ends.
func (h *Hold) Await(ctx context.Context, n int) error {
	for {
		h.mu.Lock()
		parked, changed := h.parked, h.changed
		h.mu.Unlock()
		if parked >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isReleased reports false for nil.
func (h *Hold) isReleased() bool {
	if h == nil {
		return false
	}
	select {
	case <-h.released:
		return true
	default:
		return false
	}
}

// park waits for the release. It reports false if stopped is closed before.
func (h *Hold) park(stopped <-chan struct{}) bool {
	h.count(+1)
	defer h.count(-1)
	select {
	case <-h.released:
		return true
	case <-stopped:
		return h.isReleased()
	}
}

func (h *Hold) count(change int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parked += change
	close(h.changed)
	h.changed = make(chan struct{})
}

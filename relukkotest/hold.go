package relukkotest

import (
	"context"
	"sync"
)

// Hold is the fault that [Server.Hold] and [Server.HoldReplies] return.
type Hold struct {
	mu       sync.Mutex
	parked   int
	changed  chan struct{} // closed, and replaced, when parked changes
	released chan struct{}
}

func newHold() *Hold {
	return &Hold{changed: make(chan struct{}), released: make(chan struct{})}
}

// Release ends the hold. Parked requests go on, and no others are parked. Another Release does
// nothing.
func (h *Hold) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isReleased() {
		close(h.released)
	}
}

// Parked returns the number of requests that are parked now.
func (h *Hold) Parked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parked
}

// Await waits until at least n requests are parked at the same time, and returns nil. If ctx ends
// first, it returns the cause.
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

package relukko

import (
	"sync"

	"gitlab.com/relukko/relukko-go/api"
)

// A wake says why a waiter should look again; the larger one wins.
type wake int

const (
	wakeNone  wake = iota
	wakeState      // push came or went: poll at another pace
	wakeMaybe      // some lock was released, possibly this one
	wakeSure       // this one was released, or it may have been while nobody listened
)

// waiter is one Lock that waits for push.
type waiter struct {
	a      *acquisition
	signal chan struct{} // something is pending

	mu      sync.Mutex
	pending wake
	holder  string // id of the lock that holds the name; empty where nobody can tell
	doubts  int    // how often it was taken to be another one from then on
}

// await enters a waiter; from now on no release goes unnoticed while push is up.
func (h *hub) await(a *acquisition) *waiter {
	w := &waiter{a: a, signal: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiters[w] = struct{}{}
	h.listen()
	return w
}

func (h *hub) forget(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiters, w)
	h.rest()
}

// pushed reports whether push is up.
func (h *hub) pushed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connected
}

// deleted takes in a deletion. One that tells only an id is somebody else's for
// sure only when it is known which id holds the name.
func (w *waiter) deleted(event api.Event) {
	why := wakeMaybe
	switch {
	case event.Name == w.a.m.name:
		why = wakeSure
	case event.Name != "":
		return
	case event.ID != "":
		switch w.holderID() {
		case event.ID:
			why = wakeSure
		case "":
		default:
			return
		}
	}
	w.notify(why)
}

func (w *waiter) notify(why wake) {
	if why >= wakeMaybe {
		w.doubt()
	}
	w.mu.Lock()
	w.pending = max(w.pending, why)
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// doubt makes it unknown who holds the name.
func (w *waiter) doubt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holder = ""
	w.doubts++
}

// take returns what is pending and forgets it.
func (w *waiter) take() wake {
	w.mu.Lock()
	defer w.mu.Unlock()
	why := w.pending
	w.pending = wakeNone
	return why
}

func (w *waiter) holderID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holder
}

// ask is called before the backend is asked who holds the name, in one way or
// another, and found with its result and the answer.
func (w *waiter) ask() (doubts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doubts
}

func (w *waiter) found(holder *api.Lock, doubts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if holder != nil && doubts == w.doubts {
		w.holder = holder.ID
	}
}

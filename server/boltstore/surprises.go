package boltstore

import "sync"

// surprises counts how often something may have taken effect after its caller was told that the
// outcome is unknown.
type surprises struct {
	mu      sync.Mutex
	n       int
	changed chan struct{} // closed with the next one
}

func (u *surprises) look() (n int, changed <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n, u.changed
}

func (u *surprises) add() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n++
	close(u.changed)
	u.changed = make(chan struct{})
}

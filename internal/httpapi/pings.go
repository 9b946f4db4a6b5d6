package httpapi

import "sync"

// pings asks the store one question at a time, for all that want to know.
type pings struct {
	mu  sync.Mutex
	now *ping // under way; nil: none
}

// ping is a question to the store.
type ping struct {
	done chan struct{} // closed when err is set
	err  error
}

// join returns the ping that is under way, or begins one.
func (p *pings) join(ask func() error) *ping {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		now := &ping{done: make(chan struct{})}
		p.now = now
		go func() {
			now.err = ask()
			p.mu.Lock()
			p.now = nil
			p.mu.Unlock()
			close(now.done)
		}()
	}
	return p.now
}

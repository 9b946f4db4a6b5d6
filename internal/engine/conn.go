package engine

import (
	"time"

	"gitlab.com/relukko/relukko-go/server/observe"
)

// keepPlace is for how long a place without a connection keeps its rank.
const keepPlace = 10 * time.Second

// Connect returns a new connection. The caller must call Disconnect in the end.
func (e *Engine) Connect(sink Sink) *Conn {
	c := &Conn{
		sink: sink, waiters: make(map[*Waiter]struct{}),
		locks: make(map[string]heldLock), granted: make(map[markKey]string),
	}
	c.heard.Store(int64(time.Since(e.started)))
	return c
}

// Heard records that request n was read, before it is passed to the engine; with n = 0, that
// something else was read.
func (e *Engine) Heard(c *Conn, n uint64) {
	if n > 0 {
		c.seen.Store(n)
	}
	c.heard.Store(int64(time.Since(e.started)))
	if !c.passed.Load() || !c.passed.Swap(false) {
		return
	}
	e.do(func() {
		for w := range c.waiters {
			for _, p := range w.places {
				if p.at != nil && p.queue.holder == nil {
					e.offer(p.queue)
				}
			}
		}
	})
}

// GiveUp ends all acquires of a connection, as if their clients had cancelled them.
func (e *Engine) GiveUp(c *Conn) {
	e.do(func() {
		for w := range c.waiters {
			e.abandon(w)
		}
	})
}

// Disconnect ends a connection. The places are given up if the client closed it; else they keep
// their ranks for keepPlace.
func (e *Engine) Disconnect(c *Conn, closed bool) {
	e.do(func() {
		c.closed, c.leaving = true, e.closing
		for id := range c.locks {
			delete(e.holding, id)
		}
		clear(c.locks)
		clear(c.granted)
		for w := range c.waiters {
			if closed {
				e.abandon(w)
				continue
			}
			for _, p := range w.places {
				if p.queue.reserved == p {
					e.offerSoon(p.queue) // the reservation ends
				}
			}
		}
		if len(c.waiters) > 0 {
			e.after(keepPlace, func() {
				for w := range c.waiters {
					// Its client may be on another server, and find a lock there.
					e.finish(w, observe.Cancelled)
				}
			})
		}
	})
}

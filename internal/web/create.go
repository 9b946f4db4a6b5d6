package web

import (
	"context"
	"errors"
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/server/store"
)

// create makes a lock without waiting for its name.
func (p *Page) create(ctx context.Context, w *engine.Waiter) (*store.Lock, error) {
	c := creation{ended: make(chan struct{})}
	w.Sink = &c
	p.Engine.Acquire(w)
	select {
	case <-c.ended:
	case <-ctx.Done():
		p.Engine.Abandon(w)
		return nil, ctx.Err()
	}
	if errors.Is(c.err, store.ErrHeld) {
		if c.lock == nil || c.lock.ID == "" {
			return nil, refuse(http.StatusConflict,
				"%q is kept for those who wait for it: `relukko hold` waits with them.", w.Names[0])
		}
		who, _ := holderOf(c.lock.Creator)
		return nil, refuse(http.StatusConflict, "%q is held by %s (key %s).", w.Names[0],
			orUnknown(who), c.lock.Owner)
	}
	return c.lock, c.err
}

func orUnknown(who string) string {
	if who == "" {
		return "somebody who did not say who"
	}
	return who
}

// creation is the end of a create: an [engine.Sink].
type creation struct {
	ended chan struct{} // closed when the rest is set
	lock  *store.Lock   // the new one; the holder if err is store.ErrHeld
	err   error
}

// Granted implements engine.Sink.
func (c *creation) Granted(_ *engine.Waiter, locks []store.Lock, _ uint64) {
	c.lock = &locks[0]
	close(c.ended)
}

// Refused implements engine.Sink.
func (c *creation) Refused(_ *engine.Waiter, err error, holder *store.Lock) {
	c.lock, c.err = holder, err
	close(c.ended)
}

// Waiting implements engine.Sink.
func (c *creation) Waiting(*engine.Waiter, int, *store.Lock) {}

// Deleted implements engine.Sink.
func (c *creation) Deleted(*store.Lock, string) {}

// Wanted implements engine.Sink.
func (c *creation) Wanted(string, int) {}

// Flush implements engine.Sink.
func (c *creation) Flush() {}

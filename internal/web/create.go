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
	c := engine.NewSingle()
	w.Sink = c
	p.Engine.Acquire(w)
	select {
	case <-c.Ended:
	case <-ctx.Done():
		p.Engine.Abandon(w)
		return nil, ctx.Err()
	}
	if errors.Is(c.Err, store.ErrHeld) {
		if c.Lock == nil || c.Lock.ID == "" {
			return nil, refuse(http.StatusConflict,
				"%q is kept for those who wait for it: `relukko hold` waits with them.", w.Names[0])
		}
		who, _ := holderOf(c.Lock.Creator)
		return nil, refuse(http.StatusConflict, "%q is held by %s (key %s).", w.Names[0],
			orUnknown(who), c.Lock.Owner)
	}
	return c.Lock, c.Err
}

func orUnknown(who string) string {
	if who == "" {
		return "somebody who did not say who"
	}
	return who
}

package relukko

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// gathering is the tenure of the locks of a MultiMutex until all of them are acquired. Each has a
// lease of its own.
type gathering struct {
	*target
	ctx    context.Context // of the acquires: also ends when one of the locks is lost
	end    context.CancelCauseFunc
	lost   atomic.Bool
	leases leases // in the order of target.all; nil where the lock is not acquired
}

// gather acquires the locks of a MultiMutex, and returns their session. If one is lost meanwhile,
// under which nothing has happened yet, gather begins anew. After an error the locks that it has
// acquired are released in the background.
func (t *target) gather(ctx context.Context, o owner, ask *acquire.Request) (*Session, error) {
	for {
		g := &gathering{target: t, leases: make([]*lease, len(t.all))}
		g.ctx, g.end = context.WithCancelCause(ctx)
		err := g.acquire(*ask)
		if err == nil {
			s := newSession(ctx, o, g.leases...)
			for _, l := range g.leases {
				if loss := l.enter(s); loss != nil {
					g.lost.Store(true)
					s.finish(loss)
				}
			}
			if !g.lost.Load() {
				g.end(nil)
				return s, nil
			}
		}
		again := g.lost.Load()
		for _, l := range g.leases {
			if l != nil {
				go l.releaseUnused()
			}
		}
		g.end(nil)
		if !again {
			return nil, err
		}
		ask.Creator, ask.Sent = wire.WithMark(t.creator, wire.NewMark()), time.Time{}
	}
}

// acquire acquires all locks at one instant. Where the backend cannot do that, it acquires one
// after the other: in the order of their names, so that two that want the same ones never wait for
// each other.
func (g *gathering) acquire(ask acquire.Request) error {
	grant, err := g.driver.Acquire(g.ctx, &ask)
	if err == nil {
		for i, one := range append([]*acquire.Grant{grant}, grant.More...) {
			g.hold(i, one)
		}
		return nil
	}
	if err != acquire.ErrApart {
		return err
	}
	for _, name := range slices.Sorted(slices.Values(g.all)) {
		one := ask // which a cleanup may still read
		one.Name, one.All, one.Sent = name, nil, time.Time{}
		one.Creator = wire.WithMark(g.creator, wire.NewMark())
		grant, err := g.driver.Acquire(g.ctx, &one)
		if err != nil {
			return err
		}
		g.hold(slices.Index(g.all, name), grant)
	}
	return nil
}

// hold begins the lease of a lock, which is a task of the client.
func (g *gathering) hold(i int, grant *acquire.Grant) {
	g.silence.Heard()
	l := &lease{target: g.target, name: g.all[i]}
	g.leases[i] = l
	err := g.tasks.Continue(l)
	l.start(grant, g)
	if err != nil { // Shutdown has abandoned the client's tasks
		l.lose(LossUnreachable, err)
	}
}

// finish implements [tenure].
func (g *gathering) finish(cause error) {
	g.lost.Store(true)
	g.end(cause)
}

func (g *gathering) guardEnded() bool { return false }
func (g *gathering) want()            {} // the lease remembers it for the session

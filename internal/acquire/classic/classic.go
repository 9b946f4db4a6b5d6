// Package classic is the driver over the plain HTTP API, which every Relukko backend has. A create
// with status 201 is the lock. After a 409 it is repeated: when a broadcast says that the lock may
// be free, and now and then in case that there is no broadcast.
package classic

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
)

// Driver is an [acquire.Driver]. While it holds no lock and no call waits, it has no goroutine,
// timer or connection of its own.
type Driver struct{ parts }

var _ acquire.Driver = (*Driver)(nil)

// New returns the driver for a client.
func New(client *api.Client) *Driver {
	tasks := lifecycle.Of(client)
	ctx := tasks.Context(context.Background())
	d := &Driver{parts{
		client: client,
		tasks:  tasks,
		clock:  new(clock.Clock),
		lists:  &lister{list: client.List, ctx: ctx},
		queues: new(queues),
	}}
	d.events = &events{
		watch: client.Watch, get: client.Get, ctx: ctx, queues: d.queues, lists: d.lists,
	}
	return d
}

// Clock implements [acquire.Driver].
func (d *Driver) Clock() *clock.Clock { return d.clock }

// Acquire implements [acquire.Driver].
func (d *Driver) Acquire(ctx context.Context, r *acquire.Request) (*acquire.Grant, error) {
	ctx, end := d.tasks.WhileOpen(ctx)
	defer end(nil)
	return d.AcquireWhileOpen(ctx, r)
}

// AcquireWhileOpen is Acquire with a context that itself ends when the client closes, or with the
// cause [acquire.ErrMoved].
func (d *Driver) AcquireWhileOpen(ctx context.Context, r *acquire.Request,
) (*acquire.Grant, error) {
	switch {
	case r.All != nil:
		return nil, acquire.ErrApart
	case r.Any != nil:
		return d.acquireAny(ctx, r)
	}
	return d.acquireOne(ctx, r, nil)
}

// Renew implements [acquire.Driver].
func (d *Driver) Renew(ctx context.Context, g *acquire.Grant, lease time.Duration, retry bool,
) (api.Lock, error) {
	if retry {
		return d.client.KeepAlive(ctx, g.Lock.ID, lease, api.Once(), api.FreshConn())
	}
	return d.client.KeepAlive(ctx, g.Lock.ID, lease, api.Once())
}

// Release implements [acquire.Driver].
func (d *Driver) Release(ctx context.Context, g *acquire.Grant, patience time.Duration,
) (answered bool, err error) {
	d.queues.released(g.Lock.Name)
	return d.release(ctx, g, patience)
}

// UseStream has cleanups use s as well.
func (d *Driver) UseStream(s Stream) { d.stream = s }

// Watch implements [acquire.Driver].
func (d *Driver) Watch(g *acquire.Grant, w acquire.Watcher) (stop func()) {
	return d.events.hold(g.Lock.ID, w.Check)
}

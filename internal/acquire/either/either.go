// Package either is the driver that uses the stream where there is one, and plain requests
// elsewhere.
package either

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/acquire/classic"
	"gitlab.com/relukko/relukko-go/internal/acquire/stream"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
	"gitlab.com/relukko/relukko-go/internal/sockets"
)

// Driver is an [acquire.Driver]. It acquires over the stream; while there is none it acquires with
// plain requests, and continues an acquire that waits over the stream as soon as there is one.
type Driver struct {
	tasks  *lifecycle.Group
	stream *stream.Driver
	plain  *classic.Driver
}

// New returns the driver for a client. If the client may open no WebSocket it is the classic one.
func New(client *api.Client) acquire.Driver {
	plain := classic.New(client)
	if client.Trusted() || !sockets.Of(client).Allowed() {
		return plain
	}
	d := &Driver{
		tasks:  lifecycle.Of(client),
		stream: stream.New(client, plain.Clock(), plain.CleanUp), plain: plain,
	}
	plain.UseStream(d.stream)
	return d
}

// Clock implements [acquire.Driver].
func (d *Driver) Clock() *clock.Clock { return d.stream.Clock() }

// Acquire implements [acquire.Driver].
func (d *Driver) Acquire(ctx context.Context, r *acquire.Request) (*acquire.Grant, error) {
	moved := false
	for {
		g, err := d.stream.Acquire(ctx, r)
		if err != stream.ErrAbsent {
			if g != nil && moved {
				g.Unknown.Add(false) // a plain create may still be on its way
			}
			return g, err
		}
		if g, err, moved = d.acquirePlainly(ctx, r); !moved {
			return g, err
		}
	}
}

// acquirePlainly acquires with plain requests. moved reports that there is a stream now, over which
// the request must go on.
func (d *Driver) acquirePlainly(ctx context.Context, r *acquire.Request,
) (g *acquire.Grant, err error, moved bool) {
	began := time.Now()
	ctx, end := d.tasks.WhileOpen(ctx)
	defer end(nil)
	stop, absent := d.stream.OnBack(end)
	if !absent {
		return nil, nil, true
	}
	defer stop()
	g, err = d.plain.AcquireWhileOpen(ctx, r)
	if err == nil {
		d.stream.Adopt(g)
		return g, nil, false
	}
	if context.Cause(ctx) == acquire.ErrMoved {
		if r.Sent.IsZero() {
			r.Sent = began
		}
		return nil, nil, true
	}
	return nil, err, false
}

// Renew implements [acquire.Driver].
func (d *Driver) Renew(ctx context.Context, g *acquire.Grant, lease time.Duration, retry bool,
) (api.Lock, error) {
	return d.stream.Renew(ctx, g, lease, retry)
}

// Release implements [acquire.Driver].
func (d *Driver) Release(ctx context.Context, g *acquire.Grant, patience time.Duration,
) (answered bool, err error) {
	if d.stream.Absent() {
		return d.plain.Release(ctx, g, patience)
	}
	return d.stream.Release(ctx, g, patience)
}

// Drop implements [acquire.Driver].
func (d *Driver) Drop(g *acquire.Grant) {
	d.stream.Drop(g)
	d.plain.Drop(g)
}

// Watch implements [acquire.Driver].
func (d *Driver) Watch(g *acquire.Grant, w acquire.Watcher) (stop func()) {
	stopStream := d.stream.Watch(g, w)
	if !d.stream.Absent() {
		return stopStream
	}
	stopPlain := d.plain.Watch(g, w)
	return func() { stopStream(); stopPlain() }
}

// Package stream is the driver over the stream: one WebSocket that serves a whole process. A server
// that has it keeps a queue for each name, and recognises an acquire by its mark: so an acquire is
// sent again on each new connection, until its grant or its refusal has come.
package stream

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
	"gitlab.com/relukko/relukko-go/internal/sockets"
)

// Driver is an [acquire.Driver], except that Acquire may return [ErrAbsent]. Renewals and releases
// use plain requests where there is no stream, also for the grants of another driver. While it
// holds no lock and no call waits, it closes its connection.
type Driver struct{ s *stream }

var _ acquire.Driver = (*Driver)(nil)

// New returns the driver for a client. Leases count by c. cleanUp cleans up, as a task of the
// client, what a request that has ended may have left on the backend. It may use [Driver.Cancel].
func New(client *api.Client, c *clock.Clock, cleanUp func(*acquire.Request)) *Driver {
	s := &stream{
		client:   client,
		sockets:  sockets.Of(client),
		tasks:    lifecycle.Of(client),
		clock:    c,
		cleanUp:  cleanUp,
		wake:     make(chan struct{}, 1),
		durables: make(map[durable]uint64),
		held:     make(map[string]early),
		watches:  make(map[string]acquire.Watcher),
		backs:    make(map[*context.CancelCauseFunc]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.AtEnd(s.close)
	return &Driver{s}
}

// Clock implements [acquire.Driver].
func (d *Driver) Clock() *clock.Clock { return d.s.clock }

// Acquire implements [acquire.Driver]. The error is [ErrAbsent] if there is no stream.
func (d *Driver) Acquire(ctx context.Context, r *acquire.Request) (*acquire.Grant, error) {
	return d.s.acquire(ctx, r)
}

// Renew implements [acquire.Driver].
func (d *Driver) Renew(ctx context.Context, g *acquire.Grant, lease time.Duration, retry bool,
) (api.Lock, error) {
	return d.s.renew(ctx, g.Lock.ID, lease, retry)
}

// Release implements [acquire.Driver].
func (d *Driver) Release(ctx context.Context, g *acquire.Grant, patience time.Duration,
) (answered bool, err error) {
	plainly := false
	attempt := func(ctx context.Context, first bool) error {
		silent := d.s.isSilent()
		if !plainly && !silent {
			plainly = true // next time, even if other messages come
			if tried, err := d.s.release(ctx, g); tried {
				return err
			}
		}
		plainly = false
		return acquire.Delete(ctx, d.s.client, g, first && !silent)
	}
	return acquire.Release(ctx, g, patience, attempt)
}

// Adopt makes a grant of another driver one of this driver.
func (d *Driver) Adopt(g *acquire.Grant) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.held[g.Lock.ID] = early{}
	d.s.use()
}

// Drop implements [acquire.Driver].
func (d *Driver) Drop(g *acquire.Grant) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if _, ok := d.s.held[g.Lock.ID]; ok {
		delete(d.s.held, g.Lock.ID)
		d.s.users--
	}
}

// Cancel cancels a mark over the stream, as soon as there is one, until the server has confirmed
// that no lock of the mark exists or will exist, or stop is called. It calls confirmed then. It
// calls plainly, perhaps more than once, when plain requests are needed as well: there is no
// stream, or the server refuses. Neither may block. A first cancel is sent before requests that
// begin after Cancel has returned.
func (d *Driver) Cancel(mark string, confirmed, plainly func()) (stop func()) {
	o := &orphan{stream: d.s, mark: mark, confirmed: confirmed, plainly: plainly}
	o.retry = time.AfterFunc(cancelPause, o.sendAgain)
	o.retry.Stop()
	d.s.mu.Lock()
	if d.s.away {
		plainly()
	}
	l := d.s.join(o)
	if l != nil && l.pings == 0 {
		l.ping() // if the connection is dead, that is noticed soon
	}
	d.s.mu.Unlock()
	if l != nil {
		l.flushInBackground() // a write may take long
	}
	return func() {
		d.s.mu.Lock()
		defer d.s.mu.Unlock()
		o.end()
	}
}

// Watch implements [acquire.Driver].
func (d *Driver) Watch(g *acquire.Grant, w acquire.Watcher) (stop func()) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.s.watches[g.Lock.ID] = w
	if e, ours := d.s.held[g.Lock.ID]; ours {
		d.s.held[g.Lock.ID] = early{}
		e.pass(w)
	}
	return func() {
		d.s.mu.Lock()
		defer d.s.mu.Unlock()
		delete(d.s.watches, g.Lock.ID)
	}
}

// Absent reports whether there is no stream.
func (d *Driver) Absent() bool {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return d.s.away
}

// OnBack calls end with [acquire.ErrMoved] when there is a stream again, until stop is called. It
// returns false if there is one.
func (d *Driver) OnBack(end context.CancelCauseFunc) (stop func(), absent bool) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if !d.s.away {
		return nil, false
	}
	key := &end
	d.s.backs[key] = struct{}{}
	d.s.use()
	return func() {
		d.s.mu.Lock()
		defer d.s.mu.Unlock()
		delete(d.s.backs, key)
		d.s.users--
	}, true
}

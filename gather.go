package relukko

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// calm is for how long a gathering loses nothing until another loss counts as the first one.
const calm = time.Minute

// gathering is the tenure of the locks of a MultiMutex until all of them are acquired. Each has a
// lease of its own.
type gathering struct {
	*target
	ctx    context.Context // of the acquires: also ends when one of the locks is lost
	end    context.CancelCauseFunc
	leases leases // in the order of target.all; nil where the lock is not acquired
}

// gather acquires the locks of a MultiMutex, and returns their session. If one is lost meanwhile,
// under which nothing has happened yet, gather begins anew after a pause. After an error the locks
// that it has acquired are released, in the background unless it is a TryLock.
func (t *target) gather(ctx context.Context, o owner, ask *acquire.Request) (*Session, error) {
	open, end := t.tasks.WhileOpen(ctx)
	defer end(nil)
	var again retries
	for {
		began := time.Now()
		g := &gathering{target: t, leases: make([]*lease, len(t.all))}
		g.ctx, g.end = context.WithCancelCause(ctx)
		s, loss, err := g.session(o, *ask)
		g.end(nil)
		if s != nil {
			return s, nil
		}
		g.discard(open, loss != nil || !ask.Wait)
		if loss == nil {
			return nil, err
		}
		if time.Since(began) >= calm {
			again = retries{}
		}
		if err := again.pause(open, t, ask.Since, loss); err != nil {
			return nil, err
		}
		ask.Creator, ask.Sent = wire.WithMark(t.creator, wire.NewMark()), time.Time{}
	}
}

// session acquires all locks, and returns their session, or the loss of one of them, or an error.
func (g *gathering) session(o owner, ask acquire.Request) (s *Session, loss, err error) {
	if err := g.acquire(ask); err != nil {
		return nil, g.loss(), err
	}
	s = newSession(ask.Values, o, g.leases...)
	for _, l := range g.leases {
		l.enter(s)
	}
	if loss := g.loss(); loss != nil {
		s.finish(loss)
		return nil, loss, nil
	}
	return s, nil, nil
}

// loss returns the loss of one of the locks that were acquired, or nil.
func (g *gathering) loss() error {
	for _, l := range g.leases {
		if l != nil && l.state() != nil {
			return l.state()
		}
	}
	return nil
}

// discard releases the locks that were acquired. If wait is set, it waits for that, for as long as
// Unlock would, or until ctx ends: the next request must not wait for them.
func (g *gathering) discard(ctx context.Context, wait bool) {
	for _, l := range g.leases {
		if l != nil {
			l.discard()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	for _, l := range g.leases {
		if l != nil && wait {
			select {
			case <-l.released:
			case <-ctx.Done():
			}
		}
	}
}

// retries are the pauses after losses.
type retries struct {
	policy backoff.BackOff
	since  time.Time // the first loss
}

// pause waits until the locks may be acquired anew. It returns an error if locks have been lost for
// too long, or ctx has ended.
func (r *retries) pause(ctx context.Context, t *target, began time.Time, loss error) error {
	if r.policy == nil {
		r.policy, r.since = t.backOff(), time.Now()
		r.policy.Reset()
	}
	took, pause := time.Since(r.since), r.policy.NextBackOff()
	if pause == backoff.Stop || t.patience > 0 && took+pause > t.patience {
		return &acquire.Failure{Errs: []error{loss}, Text: fmt.Sprintf(
			"gave up after %v in which locks were lost before all were acquired: %v",
			took.Round(time.Millisecond), loss)}
	}
	t.log.Info("lock not acquired, retrying", "lock", t.name, "in", pause, "error", loss)
	if acquire.Sleep(ctx, pause) {
		return nil
	}
	f := acquire.GaveUp(ctx, began)
	f.Text, f.Errs = fmt.Sprintf("%s; %v", f.Text, loss), append(f.Errs, loss)
	return f
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
	l := &lease{
		target: g.target, name: g.all[i], unused: true, released: make(chan struct{}),
	}
	g.leases[i] = l
	err := g.tasks.Continue(l)
	l.start(grant, g)
	if err != nil { // Shutdown has abandoned the client's tasks
		l.lose(LossUnreachable, err)
	}
}

// finish, guardEnded and want implement [tenure]. The lease remembers for the session that it is
// wanted.
func (g *gathering) finish(cause error) { g.end(cause) }
func (g *gathering) guardEnded() bool   { return false }
func (g *gathering) want()              {}

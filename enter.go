package relukko

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// begin has get return the session of a lock, by request or otherwise. The lease that get receives
// is a task of the client from here until its lock is released or lost, or get fails.
func (t *target) begin(log *slog.Logger, get func(l *lease, r *report) (*Session, error),
) (*Session, error) {
	if err := t.unusable(); err != nil {
		return nil, t.errorf([]error{err}, "%v", err)
	}
	l := &lease{target: t}
	if err := t.tasks.Begin(l); err != nil {
		return nil, t.errorf([]error{err}, "not acquired: %v", err)
	}
	r := &report{
		name: t.name, since: time.Now(), ahead: -1, all: t.all != nil, tell: t.onWait, log: log,
	}
	defer r.end()
	if t.onWait != nil {
		r.begin()
	}
	s, err := get(l, r)
	if err != nil {
		t.tasks.End(l)
	}
	return s, err
}

// ask returns the request for a lock, or for those of a Pool or a MultiMutex.
func (t *target) ask(ctx context.Context, wait bool, r *report,
	progress func(holder *api.Lock, ahead int),
) *acquire.Request {
	return &acquire.Request{
		Name: t.name, Any: t.any, All: t.all,
		Creator: wire.WithMark(t.creator, wire.NewMark()), Lease: t.ttl,
		Wait: wait, Priority: t.priority,
		Since: r.since, Silence: &t.silence, Patience: t.patience, BackOff: t.backOff,
		Progress: progress, Follow: t.onWait != nil, Values: ctx, Log: t.log,
	}
}

// request has the driver acquire a lock for the lease l, or the locks of a MultiMutex, and returns
// its session. The end of ctx ends only the request, that of ask.Values the guarded context.
func (t *target) request(ctx context.Context, o owner, l *lease, ask *acquire.Request,
) (*Session, error) {
	if t.all != nil {
		s, err := t.gather(ctx, o, ask)
		if err != nil {
			return nil, t.failed(err, ask.Wait)
		}
		t.tasks.End(l) // each lock has a lease of its own
		return s, nil
	}
	g, err := t.driver.Acquire(ctx, ask)
	if err != nil {
		return nil, t.failed(err, ask.Wait)
	}
	t.silence.Heard()
	s := newSession(ask.Values, o, l)
	l.start(g, s)
	return s, nil
}

// result returns what Lock returns for a session or an error.
func result(ctx context.Context, s *Session, err error) (context.Context, error) {
	if err == nil {
		return s.guarded, nil
	}
	failed, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	cancel(err)
	return failed, err
}

// do implements Do.
func do(ctx context.Context, o owner, f func(context.Context) error) (err error) {
	held, err := o.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = withUnlock(err, o.Unlock(held)) }()
	return f(held)
}

// withUnlock adds the error of Unlock to that of f, which may be the cause of its context: what it
// has already is not added. Those of several locks are joined, an opError is about one thing.
func withUnlock(err, unlocked error) error {
	if err == nil {
		return unlocked
	}
	errs := []error{unlocked}
	joined, several := unlocked.(interface{ Unwrap() []error })
	if _, one := unlocked.(*opError); several && !one {
		errs = joined.Unwrap()
	}
	for _, unlocked := range errs {
		if unlocked != nil && !errors.Is(err, unlocked) {
			err = errors.Join(err, unlocked)
		}
	}
	return err
}

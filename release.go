package relukko

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const (
	releaseTimeout = 10 * time.Second // for Unlock to wait for an answer
	usualGrace     = 3 * time.Minute  // that the backend may keep a lock after its lease
)

// release ends the lease for Unlock and releases the lock.
func (l *lease) release(ctx context.Context) error {
	if loss := l.stop(); loss != nil {
		l.giveBack(ctx, loss)
		return loss
	}
	began := time.Now()
	tasks := l.m.tasks.Context(ctx)
	answered, err := l.m.driver.Release(tasks, l.grant, releaseTimeout)
	switch {
	case err == nil:
		l.m.silence.Heard()
		l.done()
		return nil
	case errors.Is(err, api.ErrGone):
		l.done()
		loss := l.loss(LossDeleted, err)
		l.m.lost(loss)
		return loss
	case answered:
		l.m.tasks.End(l)
		return &NotReleasedError{Name: l.m.name, ID: l.grant.Lock.ID, Err: err}
	}
	// The error is not passed on as such: it speaks of a time limit that is not
	// the caller's.
	failed := &NotReleasedError{Name: l.m.name, ID: l.grant.Lock.ID, Until: l.latestEnd()}
	failed.Err = fmt.Errorf("no answer within %v: %v", time.Since(began).Round(time.Millisecond), err)
	if tasks.Err() != nil {
		failed.Until, failed.Err = time.Time{}, fmt.Errorf("%w before the backend answered: %v", api.ErrClosed, err)
	} else if time.Now().After(failed.Until) {
		failed.Until = time.Time{}
	}
	go l.releaseInBackground(ctx, l.latestEnd())
	return failed
}

// releaseInBackground goes on with a release until then.
func (l *lease) releaseInBackground(values context.Context, until time.Time) {
	defer l.done()
	_, err := l.m.driver.Release(l.m.tasks.Context(values), l.grant, time.Until(until))
	if err != nil && !errors.Is(err, api.ErrGone) {
		l.m.log.Warn("lock not released, it expires by itself", "lock", l.m.name, "id", l.grant.Lock.ID, "error", err)
	}
}

// giveBack releases, in the background, a lock that was lost but which the
// backend may keep for its grace: the name is free the sooner.
func (l *lease) giveBack(values context.Context, loss error) {
	if l.m.tasks.Continue(l) != nil {
		return // the client has closed; the lock expires by itself
	}
	var lost *LostError
	if errors.As(loss, &lost) && lost.Reason == LossDeleted {
		l.done()
		return
	}
	go l.releaseInBackground(values, laterOf(time.Now(), l.latestEnd()).Add(usualGrace))
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// done ends the use of the grant.
func (l *lease) done() {
	l.m.driver.Drop(l.grant)
	l.m.tasks.End(l)
}

package relukko

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/tasks"
)

// releaseTimeout is how long Unlock waits for an answer to the release.
const releaseTimeout = 10 * time.Second

// release ends the lease for Unlock and deletes the lock.
func (l *lease) release(ctx context.Context) error {
	if loss := l.stop(); loss != nil {
		l.giveBack(ctx, loss)
		return loss
	}
	l.hub.gave(l.m.name)
	began := time.Now()
	id := l.info().ID
	inTime, err := l.deleteBy(ctx, id, began.Add(releaseTimeout))
	switch {
	case err == nil:
		l.m.answered()
		l.settle(l.task)
		return nil
	case errors.Is(err, api.ErrGone):
		l.settle(l.task)
		loss := &LostError{Name: l.m.name, ID: id, Reason: LossDeleted, Deadline: l.end(), Err: err}
		l.m.lost(loss)
		return loss
	case inTime:
		l.task.Done()
		return &NotReleasedError{Name: l.m.name, ID: id, Err: err}
	}
	go l.releaseBehind(ctx)
	failed := &NotReleasedError{Name: l.m.name, ID: id, Until: l.lastEnd()}
	took := time.Since(began).Round(time.Millisecond)
	switch {
	case l.hub.client.Tasks().Context().Err() != nil:
		failed.Until = time.Time{}
		failed.Err = fmt.Errorf("%w before the backend answered: %v", api.ErrClosed, err)
	case time.Now().After(l.lastEnd()):
		failed.Until = time.Time{}
		failed.Err = fmt.Errorf("no answer within %v: %v", took, err)
	default:
		// err is not passed on: it speaks of our time limit, not of the caller's.
		failed.Err = fmt.Errorf("no answer within %v: %v", took, err)
	}
	return failed
}

// deleteBy deletes the lock until that is answered or it is too late. The first
// attempt has a time-out of its own, and mostly it is the only one.
func (l *lease) deleteBy(ctx context.Context, id string, end time.Time) (inTime bool, err error) {
	if _, err = l.m.client.Delete(l.task.Once(ctx), id); err == nil {
		return true, nil
	}
	limited, cancel := context.WithDeadline(l.task.Context(ctx), end)
	defer cancel()
	err = l.m.deleteOn(limited, id, err)
	return limited.Err() == nil, err
}

// releaseBehind goes on with a release that Unlock gave up waiting for.
func (l *lease) releaseBehind(ctx context.Context) {
	ctx, cancel := context.WithDeadline(l.task.Context(ctx), l.lastEnd())
	defer cancel()
	if err := l.m.delete(ctx, l.info().ID); err != nil && !errors.Is(err, api.ErrGone) {
		l.m.log.Warn("lock not released, it expires by itself", "lock", l.m.name, "id", l.info().ID, "error", err)
	}
	l.settle(l.task)
}

// giveBack deletes, behind, a lock whose lease is over but which the backend
// may keep for its grace: the name is free the sooner.
func (l *lease) giveBack(ctx context.Context, loss error) {
	task := l.m.client.Tasks().StartLate(l)
	if task == nil {
		return // the client has closed; the lock expires by itself
	}
	go func() {
		var lost *LostError
		if errors.As(loss, &lost) && lost.Reason != LossDeleted {
			ctx, cancel := context.WithTimeout(task.Context(ctx), max(time.Until(l.lastEnd()), 0)+giveBackTimeout)
			defer cancel()
			l.m.delete(ctx, lost.ID)
		}
		l.settle(task)
	}()
}

const giveBackTimeout = 3 * time.Minute // the usual grace

// settle ends the task of a lease that is over. Where a create of the same mark was never
// answered it may still arrive, and make a lock that nobody holds.
func (l *lease) settle(task *tasks.Task) {
	if !l.stray {
		task.Done()
		return
	}
	a := &acquisition{m: l.m, parent: l.values, hub: l.hub, task: task, creator: l.creator, unanswered: l.hub.now(), lost: 1}
	task.Become(a)
	go a.cleanUp()
}

// delete deletes a lock until that is answered or ctx ends. "Gone" after an
// attempt that was not answered counts as deleted.
func (m *Mutex) delete(ctx context.Context, id string) error {
	_, err := m.client.Delete(ctx, id)
	return m.deleteOn(ctx, id, err)
}

// deleteOn is delete after a first try that ended with err.
func (m *Mutex) deleteOn(ctx context.Context, id string, err error) error {
	tried := false // without an answer
	for {
		var e *api.Error
		switch {
		case err == nil:
			return nil
		case errors.Is(err, api.ErrGone):
			if errors.As(err, &e) && (tried || e.MaybeDone) {
				return nil
			}
			return err
		case ctx.Err() != nil || refused(err):
			return err
		}
		tried = tried || !api.NoEffect(err)
		m.log.Info("lock not released, trying again", "lock", m.name, "id", id, "error", err)
		pause := releasePause
		if errors.As(err, &e) {
			pause = max(pause, min(e.RetryAfter, releaseTimeout/2))
		}
		if !sleep(ctx, pause) {
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		_, err = m.client.Delete(ctx, id)
	}
}

const releasePause = 200 * time.Millisecond

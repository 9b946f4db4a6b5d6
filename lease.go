package relukko

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
)

const (
	releaseTimeout = 10 * time.Second // for Unlock to wait for an answer
	usualGrace     = 3 * time.Minute  // that the backend may keep a lock after its lease

	maxHandoff  = 100 * time.Millisecond // from one acquisition, then others get their turn
	maxHandoffs = 10_000
)

// lease is a lock that this process holds, and the time for which it may count
// on that. It can outlive a session, see [WithHandoff]. It is renewed in heartbeat.go.
//
// It is counted so that it can only end early. It runs from the instant before
// the last acknowledged request was sent, on the local clocks. A renewal that is
// not acknowledged may take effect or not: it may shorten the lease to a TTL
// from when it was sent, and never lengthens it.
type lease struct {
	*target
	grant *acquire.Grant

	mu       sync.Mutex
	tenure   tenure    // nil while the lock is handed over
	lock     api.Lock  // as last acknowledged
	began    time.Time // when it was acquired
	handoffs int       // since then
	err      error     // nil while held
	lastErr  error     // of the renewals since the last acknowledged one

	length  time.Duration   // of the lease as last granted
	acked   clock.Instant   // when it ends, by the last acknowledged request
	sent    clock.Instant   // when that request was sent
	took    time.Duration   // from then to its answer
	unacked []clock.Instant // when the renewals were sent that may yet take effect
	latest  time.Time       // when it ends, should the last of these have taken effect
	limit   clock.Instant   // the contexts end here at the latest; zero: no such limit

	expiry    *time.Timer     // ends the contexts, from the first heartbeat on
	beat      *time.Timer     // starts the next renewal; nil in trust mode
	ctx       context.Context // of the renewals, from the first heartbeat on
	cancel    context.CancelFunc
	unwatch   func()                // ends the watching for deletions and jumps of the clocks
	open      []*context.CancelFunc // of renewals that have not been answered
	hinted    bool                  // the lock may have been deleted since the last renewal was sent
	hintedAt  time.Time             // when the backend was last asked because of a hint, or will be
	orphaned  clock.Instant         // when the parent was first seen to have ended
	warnAfter time.Duration         // since then
}

// tenure is what uses a lease: a session.
type tenure interface {
	finish(cause error) // ends the contexts
	parentEnded() bool
}

// end returns when the lease ends. The caller holds l.mu.
func (l *lease) end() clock.Instant {
	if len(l.unacked) == 0 {
		return l.acked
	}
	return l.acked.Earlier(l.unacked[0].Add(l.ttl))
}

// left returns for how long the contexts may still live: until a tenth of the
// lease before its end, so that the work has a little time to stop while it is
// still alone. The caller holds l.mu.
func (l *lease) left() time.Duration {
	now := l.driver.Clock().Now()
	left := l.end().Sub(now) - min(l.ttl, l.length)/10
	if !l.limit.IsZero() {
		left = min(left, l.limit.Sub(now))
	}
	return left
}

// arm sets the timer that ends the contexts. The caller holds l.mu.
func (l *lease) arm() {
	if l.expiry == nil {
		l.expiry = time.AfterFunc(l.left(), l.expire)
		return
	}
	l.expiry.Reset(l.left())
}

// expire ends the lease if its time is over on either clock.
func (l *lease) expire() {
	l.mu.Lock()
	if l.err != nil || l.beat == nil {
		l.mu.Unlock()
		return
	}
	if l.left() > 0 {
		if l.expiry != nil {
			l.arm()
		}
		l.mu.Unlock()
		return
	}
	err := l.lastErr
	if err == nil && len(l.unacked) > 0 {
		silence := l.driver.Clock().Now().Sub(l.unacked[0])
		err = fmt.Errorf("no answer for %v", silence.Round(time.Millisecond))
	}
	l.mu.Unlock()
	l.lose(LossUnreachable, err)
}

// lose ends a lease that is still held: first the contexts, then the rest.
func (l *lease) lose(reason LossReason, err error) {
	loss := l.loss(reason, err)
	if l.finish(loss) == nil {
		l.lost(loss)
		l.tasks.End(l)
	}
}

func (l *lease) loss(reason LossReason, err error) *LostError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &LostError{
		Name: l.name, ID: l.lock.ID, Reason: reason, Deadline: l.end().Time(), Err: err,
	}
}

// stop ends the lease for Unlock. It returns the loss that has ended it before,
// if there was one.
func (l *lease) stop() error {
	l.expire()
	return l.finish(ErrUnlocked)
}

// finish makes cause the end of the lease, or returns what has ended it before.
// In either case the contexts are done when it returns.
func (l *lease) finish(cause error) (ended error) {
	l.mu.Lock()
	ended = l.err
	t, unwatch := l.tenure, l.unwatch
	if ended == nil {
		l.err = cause
		for _, timer := range []*time.Timer{l.beat, l.expiry} {
			if timer != nil {
				timer.Stop()
			}
		}
		if l.cancel != nil {
			l.cancel()
		}
	} else {
		cause = ended
	}
	l.mu.Unlock()
	if t != nil {
		t.finish(cause)
	}
	if unwatch != nil {
		unwatch()
	}
	return ended
}

func (l *lease) info() api.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lock
}

func (l *lease) state() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// latestEnd returns when the lease has ended for sure, whatever became of the
// renewals that were not acknowledged.
func (l *lease) latestEnd() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

// Describe and Abandon are for Client.Shutdown.
func (l *lease) Describe() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.grant == nil:
		return fmt.Sprintf("lock %q: a Lock that waits", l.name)
	case l.err != nil:
		return fmt.Sprintf("lock %q (%s): its release", l.name, l.lock.ID)
	}
	return fmt.Sprintf("lock %q (%s): held", l.name, l.lock.ID)
}

func (l *lease) Abandon() {
	if l.info().ID != "" {
		l.lose(LossUnreachable, api.ErrClosed)
	}
}

// leave ends the use of the lease by its session, unless the lease is over or
// due to be released.
func (l *lease) leave() bool {
	l.expire()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.handoffs >= maxHandoffs || time.Since(l.began) >= maxHandoff {
		return false
	}
	l.handoffs++
	l.tenure = nil
	return true
}

// enter makes t the tenure of a lease that was left, or returns why the lease is
// over.
func (l *lease) enter(t tenure) (loss error) {
	l.expire()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.tenure = t
	}
	return l.err
}

// release ends the lease for Unlock and releases the lock.
func (l *lease) release(ctx context.Context) error {
	if loss := l.stop(); loss != nil {
		l.giveBack(ctx, loss)
		return loss
	}
	began := time.Now()
	open := l.tasks.Context(ctx)
	answered, err := l.driver.Release(open, l.grant, releaseTimeout)
	switch {
	case err == nil:
		l.silence.Heard()
		l.done()
		return nil
	case errors.Is(err, api.ErrGone):
		l.done()
		loss := l.loss(LossDeleted, err)
		l.lost(loss)
		return loss
	case answered:
		l.tasks.End(l)
		return &NotReleasedError{Name: l.name, ID: l.grant.Lock.ID, Err: err}
	}
	// The error is not passed on as such: it speaks of a time limit that is not
	// the caller's.
	failed := &NotReleasedError{Name: l.name, ID: l.grant.Lock.ID, Until: l.latestEnd()}
	took := time.Since(began).Round(time.Millisecond)
	failed.Err = fmt.Errorf("no answer within %v: %v", took, err)
	if open.Err() != nil {
		failed.Until = time.Time{}
		failed.Err = fmt.Errorf("%w before the backend answered: %v", api.ErrClosed, err)
	} else if time.Now().After(failed.Until) {
		failed.Until = time.Time{}
	}
	go l.releaseInBackground(ctx, l.latestEnd())
	return failed
}

// releaseInBackground goes on with a release until then.
func (l *lease) releaseInBackground(values context.Context, until time.Time) {
	defer l.done()
	_, err := l.driver.Release(l.tasks.Context(values), l.grant, time.Until(until))
	if err != nil && !errors.Is(err, api.ErrGone) {
		l.log.Warn("lock not released, it expires by itself",
			"lock", l.name, "id", l.grant.Lock.ID, "error", err)
	}
}

// giveBack releases, in the background, a lock that was lost but which the
// backend may keep for its grace: the name is free the sooner.
func (l *lease) giveBack(values context.Context, loss error) {
	if l.tasks.Continue(l) != nil {
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
	l.driver.Drop(l.grant)
	l.tasks.End(l)
}

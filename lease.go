package relukko

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
)

const (
	releaseTimeout = 10 * time.Second // how long Unlock waits for a response
	usualGrace     = 3 * time.Minute  // how long the backend keeps an expired lock, by default

	// A lock that is handed off is released when one of these is reached, so that other processes
	// get their turn.
	maxHandoff  = 100 * time.Millisecond // after the acquisition
	maxHandoffs = 10_000
)

// lease is a lock that this process holds, or is about to acquire, and the time for which the
// process may rely on it. heartbeat.go renews it. With [WithHandoff] it outlives a session.
//
// An error in the count can only make it end early. It runs from the instant before the last
// acknowledged request was sent, on the local clocks. A renewal that is not acknowledged may or may
// not take effect. If it does, the lease ends a TTL after the backend carried it out; so an
// unacknowledged renewal bounds the lease to a TTL from when it was sent, and never extends it.
type lease struct {
	*target
	name  string // of the lock, once it is granted
	grant *acquire.Grant

	mu       sync.Mutex
	tenure   tenure    // nil between two sessions, during a hand-off
	lock     api.Lock  // as last acknowledged
	began    time.Time // when the lock was granted
	handoffs int       // since began
	wanted   bool      // other clients wait for the lock, as the backend says
	err      error     // why the lease has ended; nil before that
	lastErr  error     // of the renewals since the last acknowledged one

	length  time.Duration   // of the lease, as last acknowledged
	margin  time.Duration   // of that, for the work to stop
	bounded bool            // the last renewal was acknowledged, but has not extended the lease
	acked   clock.Instant   // end of the lease by the last acknowledged request
	sent    clock.Instant   // when that request was sent
	took    time.Duration   // from sent to its response
	unacked []clock.Instant // when the renewals were sent that may still take effect
	latest  time.Time       // end of the lease if the last of these takes effect
	limit   clock.Instant   // the contexts end here at the latest; zero: no such limit

	expiry    *time.Timer     // ends the contexts, from the first heartbeat on
	beat      clock.Alarm     // starts the next renewal; zero in trust mode
	ctx       context.Context // of the renewals, from the first heartbeat on
	cancel    context.CancelFunc
	unwatch   []func()              // called at the end; see watch
	open      []*context.CancelFunc // of the renewals without a response, the oldest first
	failures  int                   // of renewals that were sent, since an acknowledged one
	hinted    bool                  // a renewal is due because of a hint
	hintedAt  time.Time             // when the last such renewal was due, or will be
	unused    bool                  // nothing happens under the lock: its loss is not reported
	released  chan struct{}         // closed when it is given back; nil: nobody waits
	orphaned  clock.Instant         // when the guarded context was first found done
	warnAfter time.Duration         // after orphaned: when to warn about it next
}

// tenure is the current user of a lease: a session.
type tenure interface {
	finish(cause error) // ends the contexts
	guardEnded() bool   // reports whether the guarded context is done
	want()              // somebody waits for the lock
}

// end returns the end of the lease. The caller holds l.mu.
func (l *lease) end() clock.Instant {
	if len(l.unacked) == 0 {
		return l.acked
	}
	return l.acked.Earlier(l.unacked[0].Add(l.ttl))
}

// left returns how long until the contexts must end. That is a tenth of the lease before its end,
// so that the work has time to stop while the lock is still held. The caller holds l.mu.
func (l *lease) left() time.Duration {
	now := l.driver.Clock().Now()
	left := l.end().Sub(now) - l.margin
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

// expire loses the lease if its time is over on either clock.
func (l *lease) expire() {
	l.mu.Lock()
	if l.err != nil || l.beat == (clock.Alarm{}) {
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
	reason, err := LossUnreachable, l.lastErr
	switch {
	case l.bounded:
		reason = LossMaxHold
	case err == nil && len(l.unacked) > 0:
		silence := l.driver.Clock().Now().Sub(l.unacked[0])
		err = fmt.Errorf("no answer for %v", silence.Round(time.Millisecond))
	}
	l.mu.Unlock()
	l.lose(reason, err)
}

// lose ends a lease that has not ended yet: the contexts first, then it reports the loss.
func (l *lease) lose(reason LossReason, err error) {
	loss := l.loss(reason, err)
	if l.finish(loss) == nil {
		l.lost(loss)
		l.tasks.End(l)
	}
}

// lost reports a loss, if anything has happened under the lock.
func (l *lease) lost(loss *LostError) {
	l.mu.Lock()
	unused := l.unused
	l.mu.Unlock()
	if !unused {
		l.target.lost(loss)
	}
}

// loss returns a new error for a loss of the lock. It changes nothing.
func (l *lease) loss(reason LossReason, err error) *LostError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &LostError{
		Name: l.name, ID: l.lock.ID, Reason: reason, Deadline: l.end().Time(), Err: err,
	}
}

// stop ends the lease for Unlock. It returns the loss that ended the lease earlier, or nil.
func (l *lease) stop() error {
	l.expire()
	return l.finish(ErrUnlocked)
}

// finish ends the lease with cause. If the lease has ended already, it returns the earlier cause.
// In either case the contexts are done when finish returns.
func (l *lease) finish(cause error) (ended error) {
	l.mu.Lock()
	ended = l.err
	t, unwatch := l.tenure, l.unwatch
	l.unwatch = nil
	if ended == nil {
		l.err = cause
		l.beat.Free()
		if l.expiry != nil {
			l.expiry.Stop()
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
	for _, stop := range unwatch {
		stop()
	}
	return ended
}

// watch calls stop, which ends a watch for what concerns the lease, when the lease ends.
func (l *lease) watch(stop func()) {
	l.mu.Lock()
	over := l.err != nil
	if !over {
		l.unwatch = append(l.unwatch, stop)
	}
	l.mu.Unlock()
	if over {
		stop()
	}
}

// setWanted records whether other clients wait for the lock.
func (l *lease) setWanted(wanted bool) {
	l.mu.Lock()
	l.wanted = wanted
	l.mu.Unlock()
	if wanted {
		l.want()
	}
}

// want tells the session that somebody waits for the lock.
func (l *lease) want() {
	l.mu.Lock()
	t := l.tenure
	l.mu.Unlock()
	if t != nil {
		t.want()
	}
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

// latestEnd returns the latest instant at which the lease can end, even if every renewal that was
// not acknowledged takes effect.
func (l *lease) latestEnd() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

// Describe implements [lifecycle.Job].
func (l *lease) Describe() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.grant == nil:
		return fmt.Sprintf("%s: a waiting Lock", l.what())
	case l.err != nil:
		return fmt.Sprintf("lock %q (%s): its release", l.name, l.lock.ID)
	}
	return fmt.Sprintf("lock %q (%s): held", l.name, l.lock.ID)
}

// Abandon implements [lifecycle.Job]: it loses a lock that is held.
func (l *lease) Abandon() {
	if l.info().ID != "" {
		l.lose(LossUnreachable, api.ErrClosed)
	}
}

// leave detaches the session from the lease for a hand-off, and reports whether it did. It does not
// if the lease is over, or if other processes must have their turn.
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

// enter attaches t to a lease that has no session. It returns the loss if the lease has ended.
func (l *lease) enter(t tenure) (loss error) {
	l.expire()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.tenure, l.unused = t, false
	}
	if l.wanted {
		t.want()
	}
	return l.err
}

// release ends the lease for Unlock, and releases the lock. What it returns is what Unlock returns.
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
		l.done()
		return &NotReleasedError{Name: l.name, ID: l.grant.Lock.ID, Err: err}
	}
	// The error is passed on as text only: its time limit is not the caller's.
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

// discard releases in the background a lock under which nothing has happened.
func (l *lease) discard() {
	l.mu.Lock()
	l.unused = true
	l.mu.Unlock()
	go l.releaseUnused()
}

// releaseUnused releases a lock for which there is no caller that release could return to.
func (l *lease) releaseUnused() {
	err := l.release(l.grant.Values)
	if err != nil && !(l.unused && errors.Is(err, ErrLockLost)) {
		l.log.Warn("lock lost or not released", "lock", l.name, "error", err)
	}
}

// releaseInBackground retries a release until the given time, at least once.
func (l *lease) releaseInBackground(values context.Context, until time.Time) {
	defer l.done()
	_, err := l.driver.Release(l.tasks.Context(values), l.grant, time.Until(until))
	if err != nil && !errors.Is(err, api.ErrGone) {
		l.log.Warn("lock not released, it expires by itself",
			"lock", l.name, "id", l.grant.Lock.ID, "error", err)
	}
}

// giveBack releases a lost lock in the background, which frees its name before the backend's grace
// is over.
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

// done drops the grant and ends the client's task.
func (l *lease) done() {
	l.driver.Drop(l.grant)
	l.tasks.End(l)
	if l.released != nil {
		close(l.released)
	}
}

// jitter returns d less up to a tenth. It never lengthens d, which would leave less time to survive
// an outage.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}

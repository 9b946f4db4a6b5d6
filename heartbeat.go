package relukko

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
)

const (
	firstHeartbeat = time.Second           // at most, after the grant: short sections send none
	maxHeartbeat   = 30 * time.Second      // at most, between two heartbeats
	minHeartbeat   = 50 * time.Millisecond // at least, between two heartbeats
	firstPause     = time.Second           // at most, after the first renewal that failed
	maxAttempt     = 30 * time.Second      // at most, for one renewal
	maxOpen        = 6                     // renewals of one lock without a response
	confirmJump    = time.Second           // for a renewal after the clocks have jumped
	forgottenAgain = 10 * time.Minute      // between two warnings about one forgotten Unlock
)

// start begins to count and renew the lease of a grant. The first heartbeat sets the timer that
// ends the contexts, well before the lease ends.
func (l *lease) start(g *acquire.Grant, t tenure) {
	l.count(g, t)
	if g.Pushed {
		l.observe(g)
	}
}

// observe has the driver report what happens to the lock.
func (l *lease) observe(g *acquire.Grant) {
	l.watch(l.driver.Watch(g, acquire.Watcher{Check: l.check, Wanted: l.setWanted}))
}

func (l *lease) count(g *acquire.Grant, t tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.name == "" {
		l.name = l.memberOf(g)
	}
	l.grant, l.lock, l.began, l.tenure = g, g.Lock, time.Now(), t
	if !l.client.Trusted() {
		l.length, l.sent, l.acked = g.Length, g.Since, g.Since.Add(g.Length)
		l.margin = min(l.ttl, g.Length) / 10
		l.latest = l.acked.Time()
		l.beat = l.driver.Clock().Alarm(l.renew)
		l.beat.Set(min(firstHeartbeat, l.ttl/3, max(l.left(), 0)/3))
	}
}

// renew makes one attempt to renew the lease. The timer l.beat runs it on a goroutine of its own; a
// held lock has no goroutine between heartbeats. Attempts overlap: before renew sends its own it
// sets l.beat for the next, which starts unless this one is answered first. Attempts alternate
// between a kept and a new connection.
func (l *lease) renew() {
	l.mu.Lock()
	left := l.left()
	if l.err != nil || left <= 0 {
		l.mu.Unlock()
		l.expire()
		return
	}
	sent := l.driver.Clock().Now()
	l.unacked = append(l.unacked, sent)
	if end := sent.Add(l.ttl).Time(); end.After(l.latest) {
		l.latest = end
	}
	first := l.ctx == nil
	if first {
		l.ctx, l.cancel = context.WithCancel(l.tasks.Context(l.grant.Values))
	}
	left = max(l.left(), 0)
	l.arm()
	l.beat.Set(max(left/6, l.ttl/40, min(2*l.took, left/3)))
	ctx, cancel := context.WithTimeout(l.ctx, min(left, maxAttempt))
	defer cancel()
	if len(l.open) == maxOpen {
		(*l.open[0])() // else a backend that never responds would pile them up
	}
	// A new connection takes longer than a kept one: only where this is overdue, not just slow.
	overdue := sent.Sub(l.unacked[0]) > 2*l.took+l.ttl/20
	retry := overdue && (len(l.open)%2 == 1 || l.failures%4 == 3)
	l.open = append(l.open, &cancel)
	l.hinted = false
	l.mu.Unlock()
	if first {
		if !l.grant.Pushed {
			l.observe(l.grant)
		}
		l.watch(l.driver.Clock().OnJump(l.jumped))
	}
	lock, err := l.driver.Renew(ctx, l.grant, l.ttl, retry)
	if err != nil && ctx.Err() != nil && l.ctx.Err() == nil {
		// The time limit is this function's: errors.Is must not find context.DeadlineExceeded.
		took := l.driver.Clock().Now().Sub(sent)
		err = fmt.Errorf("no answer within %v", took.Round(time.Millisecond))
	}
	l.mu.Lock()
	l.open = slices.DeleteFunc(l.open, func(c *context.CancelFunc) bool { return c == &cancel })
	l.mu.Unlock()
	l.answered(sent, lock, err)
}

// answered handles the result of the renewal that was sent at sent.
func (l *lease) answered(sent clock.Instant, lock api.Lock, err error) {
	switch {
	case err == nil:
		l.silence.Heard()
		if forgotten := l.renewed(sent, lock); forgotten > 0 {
			l.log.Warn("a lock is still held although its context has ended; was Unlock forgotten?",
				"lock", l.name, "id", lock.ID, "ended", forgotten.Round(time.Second))
		}
	case errors.Is(err, api.ErrGone):
		l.lose(LossDeleted, err)
	case acquire.Final(err):
		l.lose(LossRefused, err)
	default:
		if left, first := l.failed(sent, err); first {
			l.log.Info("lock not renewed, retrying",
				"lock", l.name, "id", l.grant.Lock.ID, "left", left, "error", err)
		}
	}
}

// renewed counts the lease anew from an acknowledged renewal, and sets the timer for the next one.
// If a warning is due that the lock was forgotten, it returns for how long.
func (l *lease) renewed(sent clock.Instant, lock api.Lock) (forgotten time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || sent.Time().Before(l.sent.Time()) {
		return 0 // the lease is over, or a later renewal was acknowledged before this one
	}
	length := lock.ExpiresAt.Sub(lock.UpdatedAt)
	l.lastErr = nil
	if length < minHeartbeat {
		l.lastErr = fmt.Errorf("the backend renewed the lock with a lease of %v", length)
	}
	// Where the backend bounds how long a lock is held, leases get shorter. The margin must not.
	l.bounded = length < l.ttl*9/10 && lock.ExpiresAt.Equal(l.lock.ExpiresAt)
	now := l.driver.Clock().Now()
	l.lock, l.length, l.sent, l.took = lock, max(0, min(l.ttl, length)), sent, now.Sub(sent)
	l.acked, l.unacked, l.limit = sent.Add(l.length), nil, clock.Instant{}
	l.failures = 0
	if !l.bounded {
		l.margin = l.length / 10
	}
	l.latest = laterOf(l.latest, l.acked.Time())
	l.arm()
	if !l.hinted { // else check has set the timer
		// If responses are slow, leave time for three of them.
		interval := min(l.ttl/3, l.length/3, maxHeartbeat, l.length*9/10-3*l.took)
		next := sent.Add(jitter(max(interval, 0)))
		l.beat.Set(max(next.Sub(now), minHeartbeat))
	}
	return l.forgotten(sent)
}

// failed handles a renewal whose outcome is an outage, and sets the timer for the next one. It
// reports whether this is the first failure since a renewal was acknowledged, and the time left.
func (l *lease) failed(sent clock.Instant, err error) (left time.Duration, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || sent.Time().Before(l.sent.Time()) {
		return 0, false
	}
	if api.NoEffect(err) {
		l.unacked = slices.DeleteFunc(l.unacked, func(i clock.Instant) bool { return i == sent })
		l.arm()
	}
	var e *api.Error
	answered := errors.As(err, &e)
	first = l.lastErr == nil
	if first || answered || l.driver.Clock().Now().Sub(sent) > l.ttl/20 {
		l.lastErr = err // else err says only that hardly any time was left
	}
	left = l.left()
	pause := min(l.ttl/50, firstPause)
	if !api.NoEffect(err) { // the server may be too busy
		pause = max(pause, min(pause<<min(l.failures, 10), left/6))
		l.failures++
	}
	if answered {
		pause = max(pause, min(e.RetryAfter, left/2))
	}
	if pause >= left {
		return left, false // there is no time for another renewal
	}
	if !l.hinted && len(l.open) == 0 {
		l.beat.Set(pause)
	}
	return left, first
}

// check sends a renewal out of turn because the lock may have been deleted: the response decides.
// However many hints come, such renewals are minHeartbeat apart.
func (l *lease) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.hinted {
		return
	}
	l.hinted = true
	now := time.Now()
	l.hintedAt = laterOf(l.hintedAt.Add(minHeartbeat), now)
	l.beat.Set(l.hintedAt.Sub(now))
}

// jumped handles a jump of the clocks. The timers have counted wrong, so the contexts end within
// confirmJump unless the backend acknowledges a renewal by then.
func (l *lease) jumped() {
	l.mu.Lock()
	if l.err == nil {
		l.limit = l.driver.Clock().Now().Add(confirmJump)
		l.arm()
	}
	l.mu.Unlock()
	l.check()
}

// forgotten returns for how long the guarded context has been done, if a warning is due: a TTL
// after its end, and then each forgottenAgain. Unlock may have been forgotten, for example after a
// recovered panic. The caller holds l.mu.
func (l *lease) forgotten(now clock.Instant) time.Duration {
	if l.tenure == nil || !l.tenure.guardEnded() {
		l.orphaned = clock.Instant{}
		return 0
	}
	if l.orphaned.IsZero() {
		l.orphaned, l.warnAfter = now, l.ttl
	}
	ended := now.Sub(l.orphaned)
	if ended < l.warnAfter {
		return 0
	}
	l.warnAfter = ended + forgottenAgain
	return ended
}

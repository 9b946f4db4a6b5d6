package relukko

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const (
	firstHeartbeat = time.Second           // at most; sections shorter than this never send one
	maxHeartbeat   = 30 * time.Second      // between two heartbeats, however long the TTL
	minHeartbeat   = 50 * time.Millisecond // however short the lease that the backend grants, however many the broadcasts
	maxAttempt     = 10 * time.Second      // for one renewal
	minAttempt     = time.Millisecond      // with less time left none is worth sending
	confirmJump    = time.Second           // for a renewal after the clocks have jumped
)

// run is one heartbeat. It has a goroutine of its own; between two heartbeats
// there is none, so that a lock which is held costs memory only.
func (l *lease) run() {
	l.mu.Lock()
	if l.err != nil || l.cancel != nil {
		l.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(l.task.Once(l.values))
	defer cancel()
	l.cancel, l.poke = cancel, make(chan struct{}, 1)
	first := !l.guarded
	l.guarded = true
	l.mu.Unlock()
	if first {
		l.hub.guard(l)
	}
	l.renew(ctx)
	l.rest()
}

// rest ends a heartbeat and sets the timer for the next one.
func (l *lease) rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := max(jitter(min(l.m.ttl/3, l.length/3, maxHeartbeat)), minHeartbeat)
	select {
	case <-l.poke:
		next = l.soon()
	default:
	}
	l.cancel, l.poke, l.breakOff = nil, nil, nil
	if l.err == nil {
		l.beat.Reset(next)
	}
}

// soon is how long until the backend may be asked out of turn: at once, unless
// it just has been. A flood of broadcasts must not become one of renewals. The
// caller holds l.mu, and has it asked then.
func (l *lease) soon() time.Duration {
	now := time.Now()
	if l.outOfTurn.Before(now) {
		l.outOfTurn = l.outOfTurn.Add(minHeartbeat)
		if l.outOfTurn.Before(now) {
			l.outOfTurn = now
		}
	}
	return l.outOfTurn.Sub(now)
}

// jitter shortens d by up to a tenth: only shortens, since every renewal that
// comes later leaves less time for an outage.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}

// renew asks the backend until it has acknowledged a renewal or the lease is
// over.
func (l *lease) renew(beat context.Context) {
	for {
		l.mu.Lock()
		left, id := l.left(), l.lock.ID
		l.mu.Unlock()
		if left < minAttempt {
			sleep(beat, left)
			l.expire()
			return
		}
		limit := min(min(left, l.m.ttl, maxLease)*9/20, maxAttempt)
		ctx, cancel := context.WithTimeout(beat, limit)
		l.mu.Lock()
		l.breakOff = cancel
		l.mu.Unlock()
		sent := l.hub.now()
		had := l.shorten(sent)
		lock, err := l.m.client.KeepAlive(ctx, id, l.m.ttl)
		ended := ctx.Err()
		cancel()
		if err == nil {
			l.renewed(lock, sent)
			l.m.answered()
			return
		}
		if beat.Err() != nil {
			l.lose(LossUnreachable, context.Cause(beat)) // unless it has ended otherwise
			return
		}
		switch {
		case errors.Is(err, api.ErrGone):
			l.lose(LossDeleted, err)
			return
		case refused(err):
			l.lose(LossRefused, err)
			return
		}
		before := l.last()
		pause := l.failed(err, sent, had)
		if ended != nil {
			err = fmt.Errorf("no answer within %v", limit) // nobody's context but ours
			if before != nil && limit < l.m.ttl/20 {
				err = before // says more than that there was hardly any time left
			}
			l.note(err)
		}
		l.m.log.Info("lock not renewed, trying again", "lock", l.m.name, "id", id, "in", pause, "error", err)
		l.pause(beat, pause)
	}
}

// pause returns after d, or earlier when the backend is to be asked at once or
// the lease is over.
func (l *lease) pause(beat context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.poke:
		l.mu.Lock()
		d = l.soon()
		l.mu.Unlock()
		sleep(beat, d)
	case <-beat.Done():
	}
}

func (l *lease) last() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastErr
}

func (l *lease) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr = err
}

// shorten counts on the renewal that is about to be sent taking effect without
// ever being acknowledged: the lease then ends a TTL from now, even if it was
// longer. It returns the end so far.
func (l *lease) shorten(sent instant) (had instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	had = l.deadline
	if l.err == nil {
		end := sent.add(l.m.ttl)
		l.deadline = had.earlier(end)
		if end.mono.After(l.latest) {
			l.latest = end.mono
		}
		l.arm()
	}
	return had
}

// renewed counts the lease that an acknowledged renewal granted.
func (l *lease) renewed(lock api.Lock, sent instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	length := lock.ExpiresAt.Sub(lock.UpdatedAt)
	l.lastErr = nil
	if length < minHeartbeat {
		l.lastErr = fmt.Errorf("the backend answered the renewal with a lease of %v", length)
	}
	l.lock = lock
	l.grant(sent, max(0, min(l.m.ttl, length)))
	l.arm()
}

// failed notes a renewal that was not acknowledged and returns how long to
// pause. An attempt that timed out was pause enough: an outage shorter than
// half a TTL must leave time for one more attempt after it.
func (l *lease) failed(err error, sent, had instant) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr = err
	if api.NoEffect(err) && l.err == nil {
		l.deadline = had
		l.arm()
	}
	left := l.left()
	pause := min(l.m.ttl/50, left/4, time.Second)
	var e *api.Error
	if errors.As(err, &e) {
		pause = max(pause, min(e.RetryAfter, left/2))
	}
	return pause - l.hub.now().mono.Sub(sent.mono)
}

// check has the heartbeat ask the backend now.
func (l *lease) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
	case l.poke == nil:
		l.beat.Reset(l.soon())
	default:
		select {
		case l.poke <- struct{}{}:
		default: // it is about to
		}
	}
}

// jumped follows a jump of the clocks: what the timers counted is not to be
// trusted until the backend has acknowledged a renewal.
func (l *lease) jumped() {
	l.mu.Lock()
	if l.err == nil {
		l.limit = l.hub.now().add(confirmJump)
		l.arm()
		if l.breakOff != nil {
			l.breakOff() // a renewal sent before the jump confirms nothing
		}
	}
	l.mu.Unlock()
	l.check()
}

// refused reports whether a renewal or release was answered in a way that no
// later attempt would change. A 404 or 422 that is not the backend's own, and a
// 200 that says nothing, are a proxy's doing: they pass.
func refused(err error) bool {
	var e *api.Error
	if !errors.As(err, &e) || api.Transient(err) {
		return false
	}
	return e.Status >= 300 && e.Status != 404 && e.Status != 422
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// followAfter is how long a call waits until it asks for its place. Before, that is not worth a
// message.
const followAfter = 250 * time.Millisecond

// ErrAbsent is the error of an acquire, but for all of several names, if there is no stream. It may
// have been sent: the request's Sent says so.
var ErrAbsent = errors.New("there is no stream")

const (
	renewTime = 10 * time.Second // for the renewal of a lock that was found
	wholeTime = 365 * 24 * time.Hour
)

// acquire implements [acquire.Driver.Acquire]; see [ErrAbsent].
func (s *stream) acquire(ctx context.Context, r *acquire.Request) (*acquire.Grant, error) {
	s.mu.Lock()
	if s.away || s.closed {
		s.need()
		s.mu.Unlock()
		return nil, absence(r)
	}
	_, mark, _ := wire.CutMark(r.Creator)
	c := &call{
		stream: s, r: r, names: slices.Concat(r.Any, r.All), mark: mark,
		signal: make(chan struct{}, 1), began: time.Now(),
	}
	if c.names == nil {
		c.name[0] = r.Name
		c.names = c.name[:]
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < 2*followAfter {
		c.follow = r.Wait // its error will say who holds the lock
	}
	var err error
	var l *link
	if c.heard, err = r.Silence.Since(r.Since, r.Patience); err == nil && ctx.Err() == nil {
		if up := s.up(); up != nil && up.lead() {
			c.leads = up
		}
		l = s.join(c)
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		return nil, c.silent(err)
	case ctx.Err() != nil && c.leads == nil:
		return nil, c.giveUp(ctx)
	case l != nil:
		l.flush()
	}
	return c.wait(ctx)
}

// absence returns the error of a request for which there is no stream, or none that has what it
// asks for.
func absence(r *acquire.Request) error {
	if r.All != nil {
		return acquire.ErrApart
	}
	return ErrAbsent
}

// wait handles what happens to the call until it ends.
func (c *call) wait(ctx context.Context) (*acquire.Grant, error) {
	open := c.tasks.Open()
	alarm := c.clock.Alarm(c.isDue)
	defer alarm.Free()
	for {
		alarm.Set(c.due())
		if c.leads != nil {
			c.lead(ctx, c.leads, c.isNotified)
			c.mu.Lock()
			c.leads = nil
			c.mu.Unlock()
		}
		select {
		case <-c.signal:
		case <-ctx.Done():
			return nil, c.giveUp(ctx)
		case <-open.Done():
			return nil, c.giveUp(open)
		}
		if g, err := c.handle(ctx); g != nil || err != nil {
			return g, err
		}
		if c.due() <= 0 {
			if err := c.overdue(); err != nil {
				return nil, err
			}
		}
	}
}

// due returns the time until overdue is to be called.
func (c *call) due() time.Duration {
	due := wholeTime
	if c.r.Patience > 0 {
		due = c.left()
	}
	if c.r.Wait && !c.follow {
		due = min(due, followAfter-time.Since(c.began))
	}
	return due
}

// overdue asks for the place of a call that has waited for a while, and ends a call whose server
// has said nothing for too long.
func (c *call) overdue() error {
	if c.r.Wait && !c.follow && time.Since(c.began) >= followAfter {
		c.startToFollow()
	}
	if c.r.Patience <= 0 || c.left() > 0 {
		return nil
	}
	c.mu.Lock()
	err := c.lastErr
	c.mu.Unlock()
	if err == nil {
		err = errors.New("no answer to the request")
	}
	if c.r.Wait {
		c.r.Silence.GaveUp(err)
	}
	return c.fail(c.silent(err))
}

// left returns how much is left of the patience, however long attempts to reach the server take. A
// call that does not wait is to be answered: that the server responds to pings is not enough.
func (c *call) left() time.Duration {
	if !c.r.Wait {
		return c.r.Patience - time.Since(c.began)
	}
	return c.r.Patience - c.silence()
}

// startToFollow asks the server to tell the place of the call, which is a further message. By what
// the server tells, the place outlasts the connection.
func (c *call) startToFollow() {
	c.mu.Lock()
	c.follow = true
	l := c.up()
	if l != nil && l == c.link && l.open[c.n] == receiver(c) {
		c.send(l)
	}
	c.mu.Unlock()
	if l != nil {
		l.flushInBackground() // the call may end meanwhile
	}
}

// handle handles what has happened. If it returns neither a grant nor an error, the call goes on.
func (c *call) handle(ctx context.Context) (*acquire.Grant, error) {
	c.mu.Lock()
	r := c.result
	c.result = result{}
	c.mu.Unlock()
	switch r.kind {
	case granted:
		return c.take(ctx, &r)
	case refused:
		return nil, c.refused(ctx, r.err)
	case final:
		return nil, c.fail(c.failure(r.err))
	case gone:
		err := absence(c.r)
		c.leave(err == acquire.ErrApart) // else another driver continues with the mark
		return nil, err
	case outage:
		return nil, c.outlast(&r)
	}
	return nil, nil
}

// take returns the grant of a lock. If it is not known since when its lease counts, or much of that
// is over, take renews the lock first. If that fails the call asks for the lock again.
func (c *call) take(ctx context.Context, r *result) (*acquire.Grant, error) {
	g := c.grant(&r.lock, r.since)
	for i := range r.more {
		g.More = append(g.More, c.grant(&r.more[i], r.since))
	}
	left := r.since.Add(min(g.Length, c.r.Lease)).Sub(c.clock.Now())
	if r.since.IsZero() || left < g.Length*2/3 { // too little to survive an outage of half of it
		c.mu.Lock()
		c.paused = true // a new connection must not ask for what is there already
		c.mu.Unlock()
		if err := c.renewAll(ctx, append([]*acquire.Grant{g}, g.More...)); err != nil {
			return nil, c.notRenewed(ctx, r, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.durables, c)
	c.users += 1 + len(g.More)
	return g, nil
}

// renewAll renews the locks of grants, all at the same time. If one of them fails it returns at
// once.
func (c *call) renewAll(ctx context.Context, grants []*acquire.Grant) error {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	all, ctx := errgroup.WithContext(ctx)
	since := c.clock.Now()
	for _, g := range grants {
		all.Go(func() error {
			lock, err := c.renew(ctx, g.Lock.ID, c.r.Lease, false)
			if err == nil {
				g.Lock, g.Since = lock, since
				g.Length = min(lock.ExpiresAt.Sub(lock.UpdatedAt), wholeTime)
			}
			return err
		})
	}
	return all.Wait()
}

func (c *call) grant(lock *api.Lock, since clock.Instant) *acquire.Grant {
	return &acquire.Grant{
		Lock: *lock, Since: since, Length: min(lock.ExpiresAt.Sub(lock.UpdatedAt), wholeTime),
		Creator: c.r.Creator, Values: c.r.Values, Log: c.r.Log, Pushed: true,
	}
}

// notRenewed handles locks that were found but could not all be renewed: they are asked for again.
func (c *call) notRenewed(ctx context.Context, r *result, err error) error {
	c.mu.Lock()
	c.forgetLocks(r)
	c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil // wait handles that
	case errors.Is(err, api.ErrGone):
		c.sendAgain()
		return nil
	}
	return c.refused(ctx, err)
}

// refused handles an error of the server. It returns nil if the call goes on: after a pause, or
// with another API key.
func (c *call) refused(ctx context.Context, err error) error {
	c.mu.Lock()
	c.lastErr, c.paused = err, true
	l, holder := c.link, c.holder
	c.mu.Unlock()
	switch {
	case errors.Is(err, api.ErrHeld) && !c.r.Wait:
		e, _ := errors.AsType[*api.Error](err)
		if e.Holder != nil {
			holder = e.Holder
		}
		return c.fail(&acquire.Failure{
			Text: "held by another lock", Errs: []error{api.ErrHeld}, Held: true, Holder: holder,
		})
	case refusesKey(err) && c.sockets.OtherKey(ctx, l.conn):
		l.cut(err) // the next connection uses that key
		c.resume()
		return nil
	case acquire.Refused(err):
		return c.fail(c.failure(err))
	}
	if c.retry == nil {
		c.retry = c.r.BackOff()
		c.retry.Reset()
	}
	pause := c.retry.NextBackOff() // not backOff: it is the server that says this
	stop := pause == backoff.Stop
	if e, ok := errors.AsType[*api.Error](err); ok {
		pause = max(pause, min(e.RetryAfter, maxRetryAfter))
	}
	if stop || c.r.Patience > 0 && pause > c.r.Patience-c.silence() {
		return c.fail(c.silent(err))
	}
	c.r.Log.Info("lock not acquired, retrying", "lock", c.r.Name, "in", pause, "error", err)
	open := c.tasks.Open()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		c.sendAgain()
	case <-ctx.Done(): // wait handles that
	case <-open.Done():
	}
	return nil
}

// resume ends a pause.
func (c *call) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = false
}

// sendAgain sends the call again, unless there is no connection.
func (c *call) sendAgain() {
	c.mu.Lock()
	c.paused = false
	l := c.up()
	if l == nil {
		c.need()
	} else if l.open[c.n] != receiver(c) {
		c.send(l)
	}
	c.mu.Unlock()
	if l != nil {
		l.flushInBackground()
	}
}

// silence returns for how long the server has said nothing at all, or the call has waited.
func (c *call) silence() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream.heard.After(c.heard) {
		c.heard = c.stream.heard
	}
	return time.Since(c.heard)
}

// outlast handles an outage. It returns an error if that has lasted for too long.
func (c *call) outlast(r *result) error {
	c.r.Log.Info("lock not acquired, retrying", "lock", c.r.Name, "in", r.pause, "error", r.err)
	silence := c.silence()
	if c.r.Patience > 0 {
		if silence+r.pause <= c.r.Patience {
			return nil
		}
		c.r.Silence.GaveUp(r.err)
		return c.fail(c.silent(r.err))
	}
	if time.Now().Before(c.next) {
		return nil
	}
	pause := c.backOff()
	if pause == backoff.Stop {
		return c.fail(c.silent(r.err))
	}
	c.next = c.counted.Add(pause)
	return nil
}

// backOff returns the next pause of the request's policy, which begins anew once the server has
// said anything.
func (c *call) backOff() time.Duration {
	if c.retry == nil || c.heard.After(c.counted) {
		c.retry = c.r.BackOff()
		c.retry.Reset()
	}
	c.counted = time.Now()
	return c.retry.NextBackOff()
}

// giveUp ends a call whose context has ended, or whose client closes.
func (c *call) giveUp(ctx context.Context) error {
	f := acquire.GaveUp(ctx, c.r.Since)
	c.mu.Lock()
	lastErr, isHeld, holder := c.lastErr, c.isHeld, c.holder
	asked := c.follow || c.link == nil
	c.mu.Unlock()
	switch base := c.client.BaseURL(); {
	case lastErr != nil:
		f.Errs = append(f.Errs, lastErr)
		f.Text += fmt.Sprintf("; %s last said: %v", base, lastErr)
	case isHeld:
		f.Held, f.Holder = true, holder
	case asked:
		f.Text += "; no answer from " + base
	}
	return c.fail(f)
}

// fail ends the call with err. What it may have acquired is cleaned up in the background.
func (c *call) fail(err error) error {
	c.leave(true)
	return err
}

// leave ends the call. If it was ever sent and cleanUp is set, what it may have acquired is cleaned
// up in the background.
func (c *call) leave(cleanUp bool) {
	c.mu.Lock()
	delete(c.durables, c)
	c.forgetLocks(&c.result)
	c.forgetRequests()
	cleanUp = cleanUp && !c.r.Sent.IsZero() && !c.ended
	c.mu.Unlock()
	if cleanUp {
		c.cleanUp(c.r)
	}
}

// failure returns the error for a request that no later attempt would change.
func (c *call) failure(err error) error {
	return &acquire.Failure{
		Text: fmt.Sprintf("not acquired from %s: %v", c.client.BaseURL(), err), Errs: []error{err},
	}
}

// silent returns the error for a backend that has said nothing for too long; err is the last
// failure.
func (c *call) silent(err error) error {
	return &acquire.Failure{
		Text: fmt.Sprintf("gave up after %v without an answer from %s that says who holds it: %v",
			c.silence().Round(time.Millisecond), c.client.BaseURL(), err),
		Errs: []error{err},
	}
}

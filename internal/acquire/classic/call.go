package classic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	// longestWait limits the time for which a create queues on the server, so that a connection
	// that is dead, and a Lock that is cancelled, cost no more. The server keeps the place.
	longestWait = 5 * time.Second

	foreignTime   = 10 * time.Second // a refusal by something on the way is final after this
	maxRetryAfter = 5 * time.Minute
)

// call is one Acquire that is under way: a loop of creates, with pauses that depend on their
// outcomes.
type call struct {
	waiter

	running   <-chan created      // the create that goes on after the end of the call; or nil
	lastErr   error               // the last failure since the backend last said who holds the name
	gate      *semaphore.Weighted // of a pool, for the creates of its calls; nil: it has none
	passed    bool                // it has passed the gate, and lets no other through
	older     bool                // an earlier create may have made the next lock
	foreign   time.Time           // when something on the way began to refuse; zero: it does not
	queueFull time.Time           // when the backend's queue was last full
	retry     backoff.BackOff
}

// acquireOne acquires the lock of one name, for a pool if gate is not nil.
func (p *parts) acquireOne(ctx context.Context, r *acquire.Request, gate *semaphore.Weighted,
) (*acquire.Grant, error) {
	_, mark, _ := wire.CutMark(r.Creator)
	c := &call{
		waiter: waiter{parts: p, r: r, ctx: ctx, queued: queued{mark: mark}}, gate: gate,
	}
	if !r.Sent.IsZero() {
		c.unknown.Add(false)
		c.older = true
	}
	c.holder = holder{report: r.Progress, asker: c}
	c.progress = &c.holder
	g, err := c.run()
	if err != nil && c.passed && c.ctx.Err() == nil {
		gate.Release(1) // the lock that it was granted is none of the pool's any more
	}
	c.leave(err == nil)
	moved := gate == nil && context.Cause(ctx) == acquire.ErrMoved
	if err != nil && !moved && (c.running != nil || c.unknown.Creates > 0) {
		(&cleanup{parts: p, r: r, running: c.running, unknown: c.unknown}).start()
	}
	return g, err
}

// run repeats the create until the backend grants the lock or the call fails.
func (c *call) run() (*acquire.Grant, error) {
	var err error
	if c.heard, err = c.r.Silence.Since(c.r.Since, c.r.Patience); err != nil {
		return nil, c.silent(err)
	}
	defer c.holder.stop()
	if c.r.Follow {
		c.holder.askIn(askAfter - time.Since(c.r.Since))
	}
	if c.r.Wait && c.client.MaxWait() == 0 && !c.letOthers() {
		return nil, c.gaveUp()
	}
	for {
		r, ok := c.create(c.maxWait())
		if !ok {
			return nil, c.gaveUp()
		}
		g, next, err := c.handle(r)
		if g != nil || err != nil {
			return g, err
		}
		if !next {
			return nil, c.gaveUp()
		}
	}
}

// handle handles the outcome of a create. If it returns neither a grant nor an error, it has waited
// until the next create is due and next is true, or the call's context has ended and next is false.
func (c *call) handle(r created) (g *acquire.Grant, next bool, err error) {
	switch r.kind() {
	case granted:
		return c.take(r)
	case held:
		return c.isHeld(r)
	case failed:
		next, err = c.backOff(r)
		return nil, next, err
	}
	return nil, false, c.refused(r.err)
}

// isHeld handles a 409, as handle does. If the name is held by the call's own lock, which a create
// without a response made, it takes that lock.
func (c *call) isHeld(r created) (g *acquire.Grant, next bool, err error) {
	mine, err := c.heldBy(r)
	switch {
	case err != nil:
		next, err = c.backOff(created{err: err})
		return nil, next, err
	case mine != nil:
		if g, next, err = c.takeFound(mine); g != nil {
			g.Unknown.Creates--
		}
		return g, next, err
	case !c.r.Wait:
		return nil, false, &acquire.Failure{
			Text: "held by another lock", Errs: []error{api.ErrHeld},
			Held: true, Holder: c.holder.known(),
		}
	}
	c.holder.askOnce(askAfter - time.Since(c.r.Since))
	if c.maxWait() > 0 && !r.queuedForLess(c.clock.Now()) {
		if c.r.Follow {
			c.join()
		}
		return nil, true, nil // to queue there
	}
	return nil, c.await(), nil
}

// maxWait returns how long the next create may queue on the server: about until the call's context
// ends, so that the response comes then. It is 0 after a failure, so that the next response comes
// soon, and for the calls of a pool, of which one at a time may have a create under way.
func (c *call) maxWait() time.Duration {
	full := !c.queueFull.IsZero() && time.Since(c.queueFull) < pollMax
	if !c.r.Wait || c.gate != nil || c.lastErr != nil || full {
		return 0
	}
	wait := min(c.client.MaxWait(), longestWait)
	if end, ok := c.ctx.Deadline(); ok {
		wait = max(0, min(wait, time.Until(end)))
	}
	return wait
}

// create sends one create and waits for the response. It returns false if the call's context ended
// first. Then the create goes on, since only its outcome shows whether there is a lock.
func (c *call) create(wait time.Duration) (r created, ok bool) {
	if c.gate != nil && !c.passed {
		if c.passed = c.gate.Acquire(c.ctx, 1) == nil; !c.passed {
			return created{}, false
		}
	}
	if c.queue != nil {
		c.version = c.queue.asking()
	}
	if wait > 0 {
		c.holder.askOnce(askAfter - time.Since(c.r.Since))
	}
	done := make(chan created, 1)
	go func() { done <- c.post(wait) }()
	select {
	case r = <-done:
	case <-c.ctx.Done():
		c.running = done
		return created{}, false
	}
	if c.passed && r.err != nil {
		c.gate.Release(1)
		c.passed = false
	}
	if r.err != nil && !api.NoEffect(r.err) {
		c.unknown.Add(answered(r.err))
		c.older = true
	}
	return r, r.err == nil || c.ctx.Err() == nil
}

func (c *call) post(wait time.Duration) created {
	r := created{sent: c.clock.Now(), wait: wait}
	r.lock, r.err = c.client.Create(c.tasks.Context(c.r.Values), c.r.Name, c.r.Creator,
		api.Wait(wait), api.Lease(c.r.Lease))
	return r
}

// take returns the grant of a lock that was created. The lease counts from before the create was
// sent: if much of it was spent in the queue of the backend, or the lock may be that of an earlier
// create without a response, take renews the lock first. If the lease is over without a queue, take
// releases the lock instead, and waits until the next create is due.
func (c *call) take(r created) (g *acquire.Grant, next bool, err error) {
	g = c.grant(r.lock, r.sent, r.lock.ExpiresAt.Sub(r.lock.CreatedAt))
	left := r.sent.Add(g.Length).Sub(c.clock.Now())
	switch {
	case c.client.Trusted():
		return g, false, nil
	case c.older,
		r.wait > 0 && left < g.Length*2/3: // too little to survive an outage of half of it
		c.heard = time.Now()
		c.r.Silence.Heard()
		return c.takeFound(&r.lock)
	case left > min(c.r.Lease, g.Length)/10:
		return g, false, nil
	}
	if released, _ := c.release(c.ctx, g, releaseTimeout); !released {
		c.unknown.Add(true) // the cleanup deletes the lock
	}
	err = fmt.Errorf("lock %s was granted too late: its lease was over", r.lock.ID)
	next, err = c.backOff(created{err: err})
	return nil, next, err
}

// takeFound returns the grant of a lock that was found by its mark, or has queued for long. When it
// was created is not known, so takeFound renews it, and the lease counts from before the renewal.
func (c *call) takeFound(lock *api.Lock) (g *acquire.Grant, next bool, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, renewTimeout)
	defer cancel()
	sent := c.clock.Now()
	opts := []api.CallOption{api.Once()}
	if c.older { // a create had no response: the connections that are kept may be dead
		opts = append(opts, api.FreshConn())
	}
	renewed, err := c.client.KeepAlive(ctx, lock.ID, c.r.Lease, opts...)
	if err == nil {
		return c.grant(renewed, sent, renewed.ExpiresAt.Sub(renewed.UpdatedAt)), false, nil
	}
	ended := c.ctx.Err() != nil // then err may be its cause: the loss of another lock, for example
	if errors.Is(err, api.ErrGone) && !ended {
		c.older = false
	} else {
		c.unknown.Add(true) // unless it is found again, the cleanup deletes it
	}
	switch {
	case acquire.Refused(err) && !ended:
		return nil, false, c.refused(err)
	case ctx.Err() != nil && !ended:
		err = fmt.Errorf("no answer within %v", renewTimeout) // hides the error of ctx
	}
	next, err = c.backOff(created{err: err})
	return nil, next, err
}

func (c *call) grant(lock api.Lock, since clock.Instant, length time.Duration) *acquire.Grant {
	return &acquire.Grant{
		Lock: lock, Since: since, Length: min(length, wholeLease),
		Creator: c.r.Creator, Values: c.r.Values, Log: c.r.Log,
		Unknown: c.unknown,
	}
}

// heldBy records who holds the name after a 409. It returns the lock that holds it if that is the
// call's own.
func (c *call) heldBy(r created) (mine *api.Lock, err error) {
	var e *api.Error
	errors.As(r.err, &e)
	lock := e.Holder
	if lock == nil && c.unknown.Creates > 0 {
		list, err := c.lists.wait(c.ctx)
		if err != nil {
			return nil, err
		}
		lock = list.holder(c.r.Name)
	}
	if lock != nil && bears(lock, c.mark) {
		return lock, nil
	}
	c.held, c.lastErr, c.retry, c.heard, c.foreign = true, nil, nil, time.Now(), time.Time{}
	c.r.Silence.Heard()
	c.holder.is(lock)
	if c.queue != nil {
		c.queue.found(lock, c.version)
		c.queues.tell(c.queue, lock)
	}
	if c.woken {
		c.queues.lostRace(c.r.Name)
		c.woken = false
	}
	return nil, nil
}

// backOff pauses after a failure that may pass. It returns an error if such failures have lasted
// for too long, and false if the call's context has ended.
func (c *call) backOff(r created) (bool, error) {
	if c.ctx.Err() != nil {
		return false, nil // which is why the create failed
	}
	c.lastErr = r.err
	if c.retry == nil {
		c.retry = c.r.BackOff()
		c.retry.Reset()
	}
	pause := c.retry.NextBackOff()
	stop := pause == backoff.Stop
	if pause > pollMax {
		c.stepBack() // others may pause for less
	}
	var e *api.Error
	if errors.As(r.err, &e) {
		pause = max(pause, min(e.RetryAfter, maxRetryAfter))
		if r.wait > 0 && e.RetryAfter > 0 {
			c.queueFull = time.Now() // a server that shuts down sends Retry-After: 0
		}
	}
	if err := c.foreignRefusal(e); err != nil {
		return false, err
	}
	if stop || c.r.Patience > 0 && pause > c.r.Patience-time.Since(c.heard) {
		if !stop {
			c.r.Silence.GaveUp(r.err)
		}
		return false, c.silent(r.err)
	}
	c.r.Log.Info("lock not acquired, retrying", "lock", c.r.Name, "in", pause, "error", r.err)
	return acquire.Sleep(c.ctx, pause), nil
}

// foreignRefusal returns an error if something on the way has refused for longer than a restart of
// the backend takes: a login page, a gateway that requires another key, a wrong path. e is nil if
// there was no response.
func (c *call) foreignRefusal(e *api.Error) error {
	if e == nil || e.Own || !wantsOtherRequest(e.Status) {
		c.foreign = time.Time{}
		return nil
	}
	if c.foreign.IsZero() {
		c.foreign = time.Now()
	}
	if time.Since(c.foreign) < foreignTime {
		return nil
	}
	return c.failure([]error{e}, "not acquired: something on the way to %s refuses: %v",
		c.client.BaseURL(), e)
}

// wantsOtherRequest reports whether a status, from something on the way, means that the request
// itself must change. All others may mean an overload or that the backend is down.
func wantsOtherRequest(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed:
		return true
	}
	return status/100 == 3
}

// refused returns the error for a request that no later attempt would change.
func (c *call) refused(err error) error {
	return c.failure([]error{err}, "not acquired from %s: %v", c.client.BaseURL(), err)
}

// silent returns the error for a backend that has not said who holds the name for too long; err is
// the last failure.
func (c *call) silent(err error) error {
	return c.failure([]error{err},
		"gave up after %v without an answer from %s that says who holds it: %v",
		time.Since(c.heard).Round(time.Millisecond), c.client.BaseURL(), err)
}

// gaveUp returns the error for a call whose context has ended.
func (c *call) gaveUp() error {
	f := acquire.GaveUp(c.ctx, c.r.Since)
	switch {
	case c.lastErr != nil:
		f.Errs = append(f.Errs, c.lastErr)
		f.Text += fmt.Sprintf("; %s last said: %v", c.client.BaseURL(), c.lastErr)
	case c.held || c.holder.known() != nil:
		f.Held, f.Holder = true, c.holder.known()
	default:
		f.Text += fmt.Sprintf("; no answer from %s", c.client.BaseURL())
	}
	return f
}

func (c *call) failure(errs []error, format string, args ...any) error {
	return &acquire.Failure{Text: fmt.Sprintf(format, args...), Errs: errs}
}

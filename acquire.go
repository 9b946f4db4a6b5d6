package relukko

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/tasks"
)

const (
	pollFirst  = 250 * time.Millisecond // without push; doubles up to pollMax
	pollMax    = 5 * time.Second
	pollPushed = 30 * time.Second // while push is up; a net under it
	noiseFirst = 10 * time.Millisecond
	noiseMax   = 250 * time.Millisecond // between two looks on broadcasts that do not say which lock it was
)

// acquisition is one Lock or TryLock on its way to a lock.
type acquisition struct {
	m      *Mutex
	ctx    context.Context // the caller's
	hub    *hub
	task   *tasks.Task
	mark   string // at the end of the creator; says which locks are this call's
	began  time.Time
	report reporter
	waiter *waiter // entered when push is first needed
	doubts int     // the waiter's, when the last create was sent

	flight     chan created // of a create without an answer so far; else nil
	cancel     context.CancelFunc
	unanswered instant // when the earliest create that will never be answered was sent; zero: none

	turnedAway time.Time // when the backend last had no place in its queue

	ask   <-chan time.Time // when to ask who holds the lock; nil: not again
	asked int

	held     bool      // the last answer was that somebody holds it
	lastErr  error     // the last failure since then
	answered time.Time // when the backend last said who has the lock, or we began to ask
	retry    backoff.BackOff
	poll     time.Duration
	noise    time.Duration
	noisy    time.Time // when noise last rose
}

// created is the outcome of one create.
type created struct {
	lock api.Lock
	err  error
	sent instant
	wait time.Duration // asked for
}

// answered reports whether err is the backend's answer, not the lack of one.
func answered(err error) bool {
	var e *api.Error
	return errors.As(err, &e)
}

// newMark has 60 random bits.
func newMark() string { return strings.ToLower(rand.Text()[:12]) }

func (a *acquisition) creator() string { return a.m.creator + " #" + a.mark }

func (a *acquisition) owns(lock *api.Lock) bool {
	return lock.Name == a.m.name && strings.HasSuffix(lock.Creator, " #"+a.mark)
}

// run asks the backend until it has the lock.
func (a *acquisition) run(try bool) (*Session, error) {
	a.answered = time.Now()
	if a.m.onWait != nil {
		a.askAfter(reportAfter - time.Since(a.began))
	}
	for wait := a.maxWait(try); ; {
		r, ok := a.create(wait)
		if !ok {
			return nil, a.gaveUp()
		}
		if r.err != nil && !api.NotSent(r.err) && a.unanswered == (instant{}) {
			a.unanswered = r.sent
		}
		var again bool
		var err error
		switch {
		case r.err == nil:
			if s := a.take(r.lock, r.sent); s != nil {
				return s, nil
			}
			again, err = a.backOff(fmt.Errorf("lock %s came when its lease was over", r.lock.ID))
		case errors.Is(r.err, api.ErrHeld):
			mine, failed := a.heldBy(r.err)
			switch {
			case mine != nil:
				if s := a.take(*mine, a.unanswered); s != nil {
					return s, nil
				}
				again, err = a.backOff(fmt.Errorf("lock %s was found when its lease was over", mine.ID))
			case failed != nil:
				again, err = a.backOff(failed)
			case try:
				return nil, &LockedError{Name: a.m.name, Holder: a.report.known()}
			default:
				again = a.await(r)
			}
		case api.Transient(r.err):
			if r.wait > 0 && answered(r.err) {
				a.turnedAway = time.Now()
			}
			again, err = a.backOff(r.err)
		default:
			return nil, a.m.errorf([]error{r.err}, "not acquired: %v", r.err)
		}
		if err != nil {
			return nil, err
		}
		if !again {
			return nil, a.gaveUp()
		}
		wait = a.maxWait(try || a.lastErr != nil) // after a failure, ask at first only whether anybody is there
	}
}

// maxWait is how long the next create may wait on the server.
func (a *acquisition) maxWait(not bool) time.Duration {
	if not || !a.turnedAway.IsZero() && time.Since(a.turnedAway) < pollMax {
		return 0
	}
	return a.m.client.MaxWait()
}

// create sends one create and waits for its answer. It returns false when the
// caller's context ended first; the request goes on, and cleanUp sees to it.
func (a *acquisition) create(wait time.Duration) (created, bool) {
	if a.waiter != nil {
		a.doubts = a.waiter.ask()
	}
	ctx, cancel := context.WithCancel(a.task.Context(a.ctx))
	flight := make(chan created, 1)
	a.flight, a.cancel = flight, cancel
	go func() {
		r := created{sent: a.hub.now(), wait: wait}
		if wait > 0 {
			r.lock, r.err = a.m.client.Create(ctx, a.m.name, a.creator(), api.Wait(wait))
		} else {
			r.lock, r.err = a.m.client.Create(ctx, a.m.name, a.creator())
		}
		flight <- r
	}()
	for {
		select {
		case r := <-flight:
			cancel()
			a.flight = nil
			return r, true
		case <-a.ask:
			a.whoHolds()
		case <-a.ctx.Done():
			return created{}, false
		case <-a.closing():
			return created{}, false
		}
	}
}

// take makes a session of a lock that was created, unless its lease is over
// already: then the lock is given back, and nil returned.
func (a *acquisition) take(lock api.Lock, sent instant) *Session {
	length := lock.ExpiresAt.Sub(lock.CreatedAt)
	if !a.m.client.Trusted() && sent.add(min(length, maxLease)).sub(a.hub.now()) <= min(a.m.ttl, length)/10 {
		ctx, cancel := context.WithTimeout(a.task.Context(a.ctx), releaseTimeout)
		defer cancel()
		a.m.delete(ctx, lock.ID)
		return nil
	}
	l := &lease{m: a.m, hub: a.hub, task: a.task, values: a.ctx, mark: a.mark, stray: a.unanswered != instant{}}
	s := newSession(a.ctx, l)
	l.start(lock, sent, s)
	a.task.Become(l)
	return s
}

// heldBy takes in that the name is held. It returns the lock that holds it when
// that is this call's own, made by a create whose answer was lost.
func (a *acquisition) heldBy(err error) (mine *api.Lock, failed error) {
	var e *api.Error
	errors.As(err, &e)
	holder := e.Holder
	if holder == nil && a.unanswered != (instant{}) {
		if holder, failed = a.find(); failed != nil {
			return nil, failed
		}
	}
	if holder != nil && a.owns(holder) {
		return holder, nil
	}
	a.held, a.lastErr, a.retry, a.answered = true, nil, nil, time.Now()
	a.report.holderIs(holder)
	if a.waiter != nil {
		a.waiter.found(holder, a.doubts)
	}
	return nil, nil
}

// find asks who holds the name; nil where nobody does.
func (a *acquisition) find() (*api.Lock, error) {
	ctx, cancel := context.WithCancel(a.task.Context(a.ctx))
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	defer context.AfterFunc(a.m.client.Tasks().Closing(), cancel)()
	locks, err := a.m.client.List(ctx)
	for i := range locks {
		if locks[i].Name == a.m.name {
			return &locks[i], nil
		}
	}
	return nil, err
}

// await returns when another create is worth sending, or false when the
// caller's context has ended.
func (a *acquisition) await(r created) bool {
	if a.ask == nil && a.asked == 0 {
		a.askAfter(reportAfter - time.Since(a.began))
	}
	queue := a.maxWait(false) > 0 && (r.wait == 0 || a.hub.now().mono.Sub(r.sent.mono) > min(r.wait, time.Second)/2)
	fresh := (!queue || a.m.onWait != nil) && a.listen()
	if queue || fresh && a.hub.pushed() {
		return true // to wait on the server; or because it may have come free before anybody listened
	}
	if a.ask == nil && a.waiter.holderID() == "" {
		a.askAfter(reportAfter) // so that others' releases are known for what they are
	}
	a.poll = min(max(2*a.poll, pollFirst), pollMax)
	poll := time.NewTimer(a.pollPause())
	defer poll.Stop()
	var quiet <-chan time.Time // set while a wakeMaybe is sat out
	for {
		select {
		case <-a.ctx.Done():
			return false
		case <-a.closing():
			return false
		case <-poll.C:
			return true
		case <-quiet:
			return true
		case <-a.ask:
			a.whoHolds()
		case <-a.waiter.signal:
		}
		switch a.waiter.take() {
		case wakeSure:
			a.noise = 0
			return true
		case wakeMaybe:
			if quiet != nil {
				break
			}
			if time.Since(a.noisy) > time.Second {
				a.noise = 0
			}
			pause := a.noise
			a.noise, a.noisy = min(max(2*a.noise, noiseFirst), noiseMax), time.Now()
			if pause == 0 {
				return true
			}
			quiet = time.After(jitter(pause))
		case wakeState:
			poll.Reset(a.pollPause())
		}
	}
}

// listen enters a waiter, and reports whether there was none before.
func (a *acquisition) listen() bool {
	if a.waiter != nil {
		return false
	}
	a.waiter = a.hub.await(a)
	return true
}

func (a *acquisition) pollPause() time.Duration {
	d := a.poll
	if a.hub.pushed() {
		d = pollPushed
	}
	return d - mathrand.N(d/2+1)
}

// askAfter has the backend asked in d who holds the lock.
func (a *acquisition) askAfter(d time.Duration) { a.ask = time.After(d) }

// whoHolds asks, behind, who holds the lock, unless the backend has said so,
// and has WithOnWait's function told.
func (a *acquisition) whoHolds() {
	a.ask = nil
	a.asked++
	w := a.waiter
	if a.report.known() != nil && (w == nil || w.holderID() != "") {
		a.report.begin()
		return
	}
	doubts := 0
	if w != nil {
		doubts = w.ask()
	}
	a.hub.whoHolds(a.m.name, func(holder *api.Lock) {
		a.report.holderIs(holder)
		a.report.begin()
		if w != nil {
			w.found(holder, doubts)
		}
	})
}

// backOff pauses after a failure that may pass. It returns an error when it has
// lasted too long, and false when the caller's context has ended.
func (a *acquisition) backOff(err error) (bool, error) {
	a.lastErr = err
	if a.retry == nil {
		a.retry = a.m.backOff()
		a.retry.Reset()
	}
	pause := a.retry.NextBackOff()
	stop := pause == backoff.Stop
	var e *api.Error
	if errors.As(err, &e) {
		pause = max(pause, e.RetryAfter)
	}
	silence := time.Since(a.answered)
	if stop || a.m.patience > 0 && silence+pause > a.m.patience {
		return false, a.m.errorf([]error{err}, "gave up after %v without an answer from %s that says who has it: %v",
			silence.Round(time.Millisecond), a.m.client.BaseURL(), err)
	}
	a.m.log.Info("lock not acquired, trying again", "lock", a.m.name, "in", pause, "error", err)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-a.ctx.Done():
	case <-a.closing():
	}
	return false, nil
}

func (a *acquisition) closing() <-chan struct{} { return a.m.client.Tasks().Closing().Done() }

// gaveUp words why a Lock ended before it had the lock.
func (a *acquisition) gaveUp() error {
	errs := []error{api.ErrClosed}
	if err := a.ctx.Err(); err != nil {
		errs = []error{context.Cause(a.ctx), err}
	}
	text := fmt.Sprintf("not acquired within %v: %v", time.Since(a.began).Round(time.Millisecond), errs[0])
	switch {
	case a.lastErr != nil:
		errs = append(errs, a.lastErr)
		text += fmt.Sprintf("; %s last said: %v", a.m.client.BaseURL(), a.lastErr)
	case a.held:
		locked := &LockedError{Name: a.m.name, Holder: a.report.known()}
		errs = append(errs, locked)
		text += "; " + heldBy(locked.Holder)
	case !a.answered.IsZero():
		text += fmt.Sprintf("; no answer from %s", a.m.client.BaseURL())
	}
	return &opError{a.m.name, text, errs}
}

// Describe and Abandon are for Client.Close, which ends a Lock that waits as
// soon as it begins.
func (a *acquisition) Describe() string {
	return fmt.Sprintf("lock %q: the cleanup behind a Lock that gave up", a.m.name)
}

func (a *acquisition) Abandon() {}

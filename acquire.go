package relukko

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/tasks"
)

// acquisition is one Lock or TryLock on its way to a lock.
type acquisition struct {
	m      *Mutex
	parent context.Context // the caller's
	ctx    context.Context // derived from it once it takes long: ends, too, when the client closes
	waited func()          // ends ctx
	hub    *hub
	task   *tasks.Task
	began  time.Time

	creator string // with the mark at its end, which says which locks are this call's

	report report
	ask    *time.Timer // asks who holds the lock
	asking atomic.Bool // it will
	waiter atomic.Pointer[waiter]
	first  bool // in its line
	woken  bool // by the release of this lock
	doubts int  // the waiter's, when the last create was sent

	flight     chan created       // of a create that goes on though Lock has given up
	cancel     context.CancelFunc // of that create
	unanswered instant            // when the earliest create that will never be answered was sent; zero: none

	lost       int       // how many of them there are
	held       bool      // the last answer was that somebody holds it
	lastErr    error     // the last failure since then
	answered   time.Time // when the backend last said who has the lock, or we began to ask
	turnedAway time.Time // when the backend last had no place in its queue
	retry      backoff.BackOff
	poll       time.Duration
}

// created is the outcome of one create.
type created struct {
	lock api.Lock
	err  error
	sent instant
	wait time.Duration // asked for
}

const (
	markDigits = "abcdefghijklmnopqrstuvwxyz234567"
	markLength = 12 // digits of 5 random bits each
)

// marked returns the creator with a fresh mark. Marks must not meet by chance;
// nobody gains from guessing one.
func marked(creator string) string {
	var mark [markLength]byte
	for i, r := 0, rand.Uint64(); i < markLength; i, r = i+1, r>>5 {
		mark[i] = markDigits[r%32]
	}
	return creator + " #" + string(mark[:])
}

func (a *acquisition) mark() string { return a.creator[len(a.creator)-markLength:] }

func (a *acquisition) owns(lock *api.Lock) bool {
	return lock.Name == a.m.name && strings.HasSuffix(lock.Creator, " #"+a.mark())
}

// slow makes ctx end, too, when the client closes.
func (a *acquisition) slow() {
	if a.waited == nil {
		a.ctx, a.waited = a.task.Waiting(a.parent)
	}
}

// run asks the backend until it has the lock.
func (a *acquisition) run(try bool) (*Session, error) {
	a.answered = a.m.silentSince(a.began)
	if err := a.m.stillSilent(a.answered); err != nil {
		return nil, a.silent(err)
	}
	defer a.stopAsking()
	if a.m.onWait != nil {
		a.askIn(reportAfter - time.Since(a.began))
	}
	if !try && a.m.client.MaxWait() == 0 && !a.letOthers() {
		return nil, a.gaveUp()
	}
	for {
		r, ok := a.create(a.maxWait(try))
		if r.err != nil && !api.NoEffect(r.err) {
			a.lose(r.sent)
		}
		if r.err != nil || !ok {
			a.slow()
		}
		if !ok || r.err != nil && a.ctx.Err() != nil {
			return nil, a.gaveUp()
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
				if s := a.take(*mine, a.firstSent(r.sent)); s != nil {
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
			return nil, a.m.errorf([]error{r.err}, "not acquired from %s: %v", a.m.client.BaseURL(), r.err)
		}
		if err != nil {
			return nil, err
		}
		if !again {
			return nil, a.gaveUp()
		}
	}
}

// answered reports whether err is the backend's answer, not the lack of one.
func answered(err error) bool {
	var e *api.Error
	return errors.As(err, &e)
}

// maxWait is how long the next create may wait on the server. After a failure
// it asks, at first, only whether anybody is there.
func (a *acquisition) maxWait(try bool) time.Duration {
	if try || a.lastErr != nil || !a.turnedAway.IsZero() && time.Since(a.turnedAway) < pollMax {
		return 0
	}
	return a.m.client.MaxWait()
}

// create sends one create and waits for its answer. It returns false when the
// caller's context ended first. Where the backend can call creates off, the
// request is broken off then; elsewhere it goes on, which costs a goroutine.
// cleanUp sees to what it did or will do.
func (a *acquisition) create(wait time.Duration) (created, bool) {
	if w := a.waiter.Load(); w != nil {
		a.doubts = w.ask()
	}
	if wait > 0 && a.ask == nil {
		a.askIn(reportAfter - time.Since(a.began))
	}
	if a.m.client.CanCallOff() {
		ctx := tasks.UntilClose(a.ctx)
		if _, ok := ctx.Deadline(); ok {
			// Else the caller's deadline would look like a dark network's time-out.
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			defer context.AfterFunc(a.ctx, cancel)()
		}
		r := a.post(ctx, wait)
		return r, r.err == nil || a.ctx.Err() == nil
	}
	ctx, cancel := context.WithCancel(a.task.Context(a.parent))
	flight := make(chan created, 1)
	go func() { flight <- a.post(ctx, wait) }()
	select {
	case r := <-flight:
		cancel()
		return r, true
	case <-a.ctx.Done():
	case <-a.m.client.Tasks().Closing():
	}
	a.flight, a.cancel = flight, cancel
	return created{}, false
}

func (a *acquisition) post(ctx context.Context, wait time.Duration) created {
	r := created{sent: a.hub.now(), wait: wait}
	if wait > 0 {
		r.lock, r.err = a.m.client.Create(ctx, a.m.name, a.creator, api.Wait(wait))
	} else {
		r.lock, r.err = a.m.client.Create(ctx, a.m.name, a.creator)
	}
	return r
}

// lose notes that what a create did, sent then, is not known.
func (a *acquisition) lose(sent instant) {
	a.unanswered = a.firstSent(sent)
	a.lost++
}

// firstSent is when the earliest create was sent that may have made a lock, of
// those without an answer and the one that was sent then.
func (a *acquisition) firstSent(sent instant) instant {
	if a.unanswered == (instant{}) {
		return sent
	}
	return a.unanswered.earlier(sent)
}

// take makes a session of a lock that was created, unless its lease is over
// already: then the lock is given back, and nil returned.
func (a *acquisition) take(lock api.Lock, sent instant) *Session {
	length := lock.ExpiresAt.Sub(lock.CreatedAt)
	if !a.m.client.Trusted() && sent.add(min(length, maxLease)).sub(a.hub.now()) <= min(a.m.ttl, length)/10 {
		a.lose(sent)
		a.slow()
		ctx, cancel := context.WithTimeout(a.ctx, releaseTimeout)
		defer cancel()
		a.m.delete(ctx, lock.ID) // where that fails, cleanUp sees to it
		return nil
	}
	l := &lease{m: a.m, hub: a.hub, task: a.task, values: a.parent, creator: a.creator, stray: a.lost > 0}
	s := newSession(a.parent, l)
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
	a.m.answered()
	a.report.holderIs(holder)
	if w := a.waiter.Load(); w != nil {
		w.found(holder, a.doubts)
		a.hub.tell(w, holder)
	}
	if a.woken {
		a.hub.lostRace(a.m.name)
		a.woken = false
	}
	return nil, nil
}

// find asks who holds the name; nil where nobody does. It leaves time to ask
// again on another connection, should this one have gone dark.
func (a *acquisition) find() (*api.Lock, error) {
	ctx, cancel := context.WithTimeout(a.ctx, listTimeout)
	defer cancel()
	locks, err := a.m.client.List(ctx)
	if err != nil && ctx.Err() != nil && a.ctx.Err() == nil {
		err = fmt.Errorf("no list of the locks within %v", listTimeout) // nobody's context but ours
	}
	for i := range locks {
		if locks[i].Name == a.m.name {
			return &locks[i], nil
		}
	}
	return nil, err
}

// gaveUp words why a Lock ended before it had the lock.
func (a *acquisition) gaveUp() error {
	errs := []error{context.Cause(a.ctx)}
	if err := a.parent.Err(); err != nil && err != errs[0] {
		errs = append(errs, err)
	}
	text := fmt.Sprintf("not acquired within %v: %v", time.Since(a.began).Round(time.Millisecond), errs[0])
	holder := a.report.known()
	switch {
	case a.lastErr != nil:
		errs = append(errs, a.lastErr)
		text += fmt.Sprintf("; %s last said: %v", a.m.client.BaseURL(), a.lastErr)
	case a.held || holder != nil:
		errs = append(errs, &LockedError{Name: a.m.name, Holder: holder})
		text += "; " + heldBy(holder)
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

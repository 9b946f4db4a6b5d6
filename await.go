package relukko

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/api"
)

const (
	pollFirst  = 250 * time.Millisecond // without push; doubles up to pollMax
	pollMax    = 5 * time.Second
	pollPushed = 30 * time.Second // while push is up; a net under it
	noiseFirst = 10 * time.Millisecond
	noiseMax   = 250 * time.Millisecond // between two looks on broadcasts that do not say which lock it was
	paceOf     = 4 * time.Millisecond   // between two looks on those that do, on average
	paceBurst  = 200 * time.Millisecond // of such looks may be made at once

	maxRetryAfter = 5 * time.Minute
	lineSilence   = time.Minute // until who stands in line looks, where the policy sets no limit
)

// await returns when another create is worth sending, after r found the name
// held, or false when the caller's context has ended.
func (a *acquisition) await(r created) bool {
	if a.ask == nil {
		a.askIn(reportAfter - time.Since(a.began))
	}
	queue := a.maxWait(false) > 0 && (r.wait == 0 || a.hub.now().mono.Sub(r.sent.mono) > min(r.wait, time.Second)/2)
	fresh := (!queue || a.m.onWait != nil) && a.listen()
	if queue {
		return true // to wait on the server
	}
	w := a.waiter.Load()
	a.poll = min(max(2*a.poll, pollFirst), pollMax)
	if !a.first && !a.standInLine(w) {
		return a.ctx.Err() == nil
	}
	if fresh && a.hub.pushed() || r.sent == (instant{}) && !w.isHeld() || r.wait == 0 && a.maxWait(false) > 0 {
		return true // it may have come free before anybody listened, or the server can tell by now
	}
	if a.m.onWait != nil && !a.hub.pushed() {
		w.doubt() // nobody says when the holder changes
	}
	if w.holderID() == "" {
		a.askIn(reportAfter) // so that others' releases are known for what they are
	}
	pause := a.pollPause()
	poll, due := time.NewTimer(pause), time.Now().Add(pause)
	defer poll.Stop()
	var quiet <-chan time.Time // set while a wake is sat out
	var until time.Time
	sitOut := func(d time.Duration) {
		if at := time.Now().Add(d); quiet == nil || at.Before(until) {
			quiet, until = time.After(d), at
		}
	}
	for {
		select {
		case <-a.ctx.Done():
			return false
		case <-poll.C:
			return true
		case <-quiet:
			return true
		case <-w.signal:
		}
		switch w.take() {
		case wakeLook:
			return true
		case wakeSure:
			w.noise = 0
			a.woken = true
			pause := max(a.hub.courtesy(w.name, w.miss()), w.pace())
			if pause == 0 {
				return true
			}
			sitOut(pause)
		case wakeLikely:
			if quiet != nil {
				break
			}
			first := time.Since(w.noisy) > time.Second
			w.noisy = time.Now()
			if first && a.hub.courtesy(w.name, 0) == 0 {
				return true
			}
			sitOut(max(rand.N(noiseFirst), w.pace()))
		case wakeMaybe:
			if quiet != nil {
				break
			}
			if time.Since(w.noisy) > time.Second {
				w.noise = 0
			}
			pause := w.noise
			w.noise, w.noisy = min(max(2*w.noise, noiseFirst), noiseMax), time.Now()
			if pause == 0 {
				return true
			}
			sitOut(jitter(pause))
		case wakeState:
			if pause := a.pollPause(); pause < time.Until(due) { // where push never was, what has been waited counts
				due = time.Now().Add(pause)
				poll.Reset(pause)
			}
		}
	}
}

// letOthers has a Lock that comes stand in line with those of its process that
// wait already, and leaves a name that other processes want to them for a
// moment: nothing else keeps them from starving. It returns false when the
// caller's context has ended.
func (a *acquisition) letOthers() bool {
	if a.hub.awaited(a.m.name) {
		a.slow()
		return a.await(created{})
	}
	if pause := a.hub.courtesy(a.m.name, 0); pause > 0 {
		a.slow()
		return sleep(a.ctx, pause)
	}
	return true
}

// listen enters a waiter, and reports whether nobody listened before.
func (a *acquisition) listen() bool {
	if a.waiter.Load() != nil {
		return false
	}
	w, fresh := a.hub.await(a)
	a.waiter.Store(w)
	return fresh
}

// standInLine returns true when all who waited before are served or have given
// up. It returns false when the caller's context has ended, or when it is time
// to look all the same: a create without an answer may have made the very lock
// that the others wait for, or whoever is first learns nothing (it may have
// more patience with the backend than this Lock has, and may not be kept
// waiting for one time-out of each that stands before).
func (a *acquisition) standInLine(w *waiter) bool {
	if !w.turn.TryAcquire(1) {
		a.held = true
		ctx, end := a.whileHeard(w)
		defer end()
		if a.lost > 0 {
			defer time.AfterFunc(a.pollPause(), end).Stop()
		}
		err := w.turn.Acquire(ctx, 1)
		if word := w.lastWord(); word.After(a.answered) {
			a.answered = word
		}
		if err != nil {
			return false
		}
	}
	a.first = true
	return true
}

// whileHeard returns a context derived from a's that ends, too, when the backend
// has told nobody in the line for too long who has the lock. end ends it in any
// case.
func (a *acquisition) whileHeard(w *waiter) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(a.ctx)
	answered, patience := a.answered, a.m.patience
	if patience == 0 {
		patience = lineSilence
	}
	left := func() time.Duration {
		word := w.lastWord()
		if word.Before(answered) {
			word = answered
		}
		return patience - time.Since(word)
	}
	var timer *time.Timer
	timer = time.AfterFunc(maxLease, func() {
		d := left()
		if d <= 0 {
			cancel()
			return
		}
		timer.Reset(d)
		if ctx.Err() != nil {
			timer.Stop() // end may have been before the Reset
		}
	})
	timer.Reset(left())
	return ctx, func() { cancel(); timer.Stop() }
}

// leaveLine lets the next in the line be the first.
func (a *acquisition) leaveLine() {
	if a.first {
		a.first = false
		a.waiter.Load().leave()
	}
}

func (a *acquisition) pollPause() time.Duration {
	d := a.poll
	if a.first && a.hub.pushed() {
		d = pollPushed
	}
	return d - rand.N(d/2)
}

// askIn has the backend asked in d who holds the lock, unless it will be
// anyway.
func (a *acquisition) askIn(d time.Duration) {
	switch {
	case a.asking.Swap(true):
	case a.ask == nil:
		a.ask = time.AfterFunc(d, a.whoHolds)
	default:
		a.ask.Reset(d)
	}
}

func (a *acquisition) stopAsking() {
	if a.ask != nil {
		a.ask.Stop()
	}
}

// whoHolds asks who holds the lock, unless the backend has said so, and has
// WithOnWait's function told.
func (a *acquisition) whoHolds() {
	a.asking.Store(false)
	w := a.waiter.Load()
	if a.report.known() != nil && (w == nil || w.holderID() != "") {
		a.report.begin()
		return
	}
	doubts := 0
	if w != nil {
		doubts = w.ask()
	}
	a.report.beginIn(time.Second) // whether or not there is an answer
	a.hub.whoHolds(a.m.name, func(holder *api.Lock, _ error) {
		if holder != nil && a.owns(holder) {
			return // we do, by now
		}
		a.report.holderIs(holder)
		a.report.begin()
		if w != nil {
			w.found(holder, doubts)
			a.hub.tell(w, holder)
		}
	})
}

// backOff pauses after a failure that may pass. It returns an error when it has
// lasted too long, and false when the caller's context has ended.
func (a *acquisition) backOff(err error) (bool, error) {
	a.slow()
	if a.ctx.Err() != nil {
		return false, nil // err says no more than that
	}
	a.lastErr = err
	if a.retry == nil {
		a.retry = a.m.backOff()
		a.retry.Reset()
	}
	pause := a.retry.NextBackOff()
	stop := pause == backoff.Stop
	if pause > pollMax {
		a.leaveLine() // others may have less of it
	}
	var e *api.Error
	if errors.As(err, &e) {
		pause = max(pause, min(e.RetryAfter, maxRetryAfter))
	}
	silence := time.Since(a.answered)
	if stop || a.m.patience > 0 && pause > a.m.patience-silence {
		if !stop {
			a.m.silent(err)
		}
		return false, a.silent(err)
	}
	a.m.log.Info("lock not acquired, trying again", "lock", a.m.name, "in", pause, "error", err)
	return sleep(a.ctx, pause), nil
}

// silent words that the backend says nothing useful, and err last.
func (a *acquisition) silent(err error) error {
	return a.m.errorf([]error{err}, "gave up after %v without an answer from %s that says who has it: %v",
		time.Since(a.answered).Round(time.Millisecond), a.m.client.BaseURL(), err)
}

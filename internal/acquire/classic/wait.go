package classic

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// silenceInQueue is how long a call stands in its queue while the backend says
// nothing, where its policy sets no limit.
const silenceInQueue = time.Minute

// waiter is a call as one that waits for its name.
type waiter struct {
	*parts
	r      *acquire.Request
	parent context.Context // of the request
	ctx    context.Context // also ends when the client closes, or on stop
	stop   context.CancelFunc
	member

	queue       *queue // once it waits
	leaveEvents func()
	first       bool          // in the queue
	version     int           // of what the queue knew when the last create was sent
	woken       bool          // by the release of this lock
	poll        time.Duration // before jitter
	holder      holder

	unanswered int       // creates that will never be answered
	held       bool      // the last answer was that somebody holds the name
	heard      time.Time // when the backend last said who holds it, or the call began
}

// open sets ctx.
func (w *waiter) open() {
	w.ctx, w.stop = w.tasks.WhileOpen(w.parent)
	w.holder.setAbort(w.stop)
}

// await returns when the next create is due after r found the name held, or
// false when the call's context has ended. The next create may queue on the
// server for maxWait.
func (w *waiter) await(r created, maxWait time.Duration) bool {
	w.holder.askOnce(askAfter - time.Since(w.r.Since))
	onServer := maxWait > 0 && !r.queuedForLess(w.clock.Now())
	fresh := (!onServer || w.r.Follow) && w.join()
	if onServer {
		return true // to queue there
	}
	w.poll = longerPoll(w.poll)
	if !w.first && !w.stand() {
		return w.ctx.Err() == nil
	}
	if fresh && w.events.pushed() || r.wait == 0 && maxWait > 0 {
		return true // it may have come free before anybody listened, or the server can queue by now
	}
	if r.sent.IsZero() && !w.queue.isHeld() {
		return true // the call has not asked before, and nobody knows
	}
	return w.pace()
}

// pace returns when the pacer has the next create due, or false when the call's
// context has ended.
func (w *waiter) pace() bool {
	if w.r.Follow && !w.events.pushed() {
		w.queue.unknown() // nobody says when the holder changes
	}
	if w.queue.holderID() == "" {
		w.holder.askIn(askAfter) // so that others' releases are known for what they are
	}
	p := &w.queue.pace
	p.begin(time.Now(), w.poll, w.events.pushed())
	timer := time.NewTimer(time.Until(p.due()))
	defer timer.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-w.holder.ownSeen():
			return true
		case <-w.queue.signal:
		}
		h, missed := w.queue.take()
		now := time.Now()
		p.hear(h, now, w.events.pushed(), w.queues.yield(w.queue.name, missed))
		w.woken = w.woken || h == hintReleased
		due := p.due()
		if !due.After(now) {
			return true
		}
		timer.Reset(due.Sub(now))
	}
}

// letOthers has a new call stand in the queue with those that wait already, and
// leaves a name that other processes want to them for a moment: nothing else
// keeps them from starving. It returns false when the call's context has ended.
func (w *waiter) letOthers() bool {
	if w.queues.waiting(w.r.Name) {
		return w.await(created{}, 0)
	}
	return sleep(w.ctx, w.queues.yield(w.r.Name, 0))
}

// join enters the call into its queue, and reports whether nobody listened for
// the name before.
func (w *waiter) join() (fresh bool) {
	if w.queue != nil {
		return false
	}
	w.queue, fresh = w.queues.join(w.r.Name, &w.member)
	w.leaveEvents = w.events.wait()
	return fresh
}

// stand returns true when all that waited before are served or have given up.
// It returns false when the call's context has ended, or when it has to ask all
// the same: a create without an answer may have made the very lock that the
// others wait for, or the first one learns nothing and may have more patience
// with the backend than this call has.
func (w *waiter) stand() bool {
	if !w.queue.turn.TryAcquire(1) {
		w.held = true
		ctx, end := w.whileHeard()
		defer end()
		w.holder.onOwn(end)
		defer w.holder.onOwn(nil)
		if w.unanswered > 0 {
			defer time.AfterFunc(w.poll-w.queue.pace.random(w.poll/2), end).Stop()
		}
		err := w.queue.turn.Acquire(ctx, 1)
		if heard := w.queue.lastHeard(); heard.After(w.heard) {
			w.heard = heard
		}
		if err != nil {
			return false
		}
	}
	w.first = true
	return true
}

// whileHeard returns a context derived from the call's that also ends when the
// backend has told nobody in the queue for too long who holds the lock. end ends
// it in any case.
func (w *waiter) whileHeard() (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	q, heard, patience := w.queue, w.heard, w.r.Patience
	if patience == 0 {
		patience = silenceInQueue
	}
	left := func() time.Duration {
		last := q.lastHeard()
		if last.Before(heard) {
			last = heard
		}
		return patience - time.Since(last)
	}
	var timer *time.Timer
	timer = time.AfterFunc(wholeLease, func() {
		if d := left(); d > 0 {
			timer.Reset(d)
		} else {
			cancel()
		}
	})
	timer.Reset(left())
	return ctx, func() { cancel(); timer.Stop() }
}

// stepBack lets the next call in the queue be the first.
func (w *waiter) stepBack() {
	if w.first {
		w.first = false
		w.queue.stepBack()
	}
}

// leave ends the wait. The next call in the queue is the first one then.
func (w *waiter) leave(granted bool) {
	if w.queue == nil {
		return
	}
	if w.first && granted {
		w.queue.got(w.version)
		w.queue.turn.Release(1)
	} else {
		w.stepBack()
	}
	w.queues.leave(w.queue, &w.member)
	w.leaveEvents()
}

// ask asks the backend who holds the lock, unless that is known.
func (w *waiter) ask() {
	if q := w.queues.named(w.r.Name); w.holder.known() != nil && (q == nil || q.holderID() != "") {
		return
	}
	w.lists.next(func() func(*listing, error) {
		q := w.queues.named(w.r.Name)
		version := 0
		if q != nil {
			version = q.asking()
		}
		return func(list *listing, err error) {
			if err != nil {
				return
			}
			lock := list.holder(w.r.Name)
			w.holder.is(lock)
			if q != nil && (lock == nil || !bears(lock, w.mark)) {
				q.found(lock, version)
				w.queues.tell(q, lock)
			}
		}
	})
}

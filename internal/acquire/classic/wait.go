package classic

import (
	"cmp"
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// silenceInQueue is how long a call without a time limit of its own stays in its queue while the
// backend does not say who holds the lock.
const silenceInQueue = time.Minute

// waiter is the part of a call that waits for the name.
type waiter struct {
	*parts
	r   *acquire.Request
	ctx context.Context // of the request; also ends when the client closes
	queued

	queue       *queue // nil before join
	leaveEvents func()
	first       bool          // the call is the first of its queue
	idle        bool          // the call ended while no create was due
	version     int           // of the queue, when the last create was sent
	woken       bool          // the next create is due because the lock was released
	poll        time.Duration // before jitter
	holder      holder

	unknown acquire.Unknown
	held    bool      // the name is held, as far as is known
	heard   time.Time // when the backend last said who holds it, or the call began
}

// await waits until the next create is due, after the name was found held. It returns false if the
// call's context ended first.
func (w *waiter) await() bool {
	fresh := w.join()
	if !w.stand() {
		return w.ctx.Err() == nil
	}
	if fresh && w.events.pushed() {
		return true // the name may be free since before the queue existed
	}
	return w.pace()
}

// pace waits until the pacer has the next create due. It returns false if the call's context ended
// first.
func (w *waiter) pace() bool {
	if w.r.Follow && !w.events.pushed() {
		w.queue.unknown() // without push the holder may change unnoticed
	}
	if w.queue.holderID() == "" {
		w.holder.askIn(askAfter) // so that a broadcast with only an id can be matched
	}
	p := &w.queue.pace
	p.begin(time.Now(), w.poll, w.events.pushed())
	timer := time.NewTimer(time.Until(p.due()))
	defer timer.Stop()
	for {
		select {
		case <-w.ctx.Done():
			w.idle = p.askAt.IsZero()
			return false
		case <-timer.C:
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

// letOthers delays the first create of a call. The call queues if others wait already; else it
// leaves the name for a moment to other processes that want it, which could starve otherwise. It
// returns false if the call's context ended first.
func (w *waiter) letOthers() bool {
	if !w.queues.waiting(w.r.Name) {
		return acquire.Sleep(w.ctx, w.queues.yield(w.r.Name, 0))
	}
	w.holder.askOnce(askAfter - time.Since(w.r.Since))
	w.join()
	if !w.stand() {
		return w.ctx.Err() == nil
	}
	return !w.queue.isHeld() || w.pace()
}

// join adds the call to its queue, unless it is in one. fresh reports whether the queue is new.
func (w *waiter) join() (fresh bool) {
	if w.queue != nil {
		return false
	}
	w.queue, fresh = w.queues.join(w.r.Name, &w.queued)
	w.leaveEvents = w.events.wait()
	return fresh
}

// stand waits until the call is the first of its queue, and returns true. It returns false if the
// call's context ended first. It also returns false if the call must ask the backend although it is
// not first: because a create without a response may have made the very lock for which the queue
// waits, or because the first call has learned nothing for this call's patience.
func (w *waiter) stand() bool {
	w.poll = longerPoll(w.poll)
	if w.first || w.queue.turn.TryAcquire(1) {
		w.first = true
		return true
	}
	w.held = true
	ctx, end := w.whileHeard()
	defer end()
	if w.unknown.Creates > 0 {
		defer time.AfterFunc(w.poll-w.queue.pace.random(w.poll/2), end).Stop()
	}
	w.first = w.queue.turn.Acquire(ctx, 1) == nil
	if heard := w.queue.lastHeard(); heard.After(w.heard) {
		w.heard = heard
	}
	return w.first
}

// whileHeard returns a context derived from the call's. It also ends when the backend has not said
// for this call's patience who holds the lock, and when the caller calls end.
func (w *waiter) whileHeard() (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	began, patience := w.heard, cmp.Or(w.r.Patience, silenceInQueue)
	left := func() time.Duration {
		return patience - min(time.Since(began), time.Since(w.queue.lastHeard()))
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
	return ctx, func() { timer.Stop(); cancel() }
}

// stepBack makes the next call the first of the queue, if this one was.
func (w *waiter) stepBack() {
	if w.first {
		w.first = false
		w.queue.stepBack()
	}
}

// leave removes the call from its queue. The next call is then the first.
func (w *waiter) leave(granted bool) {
	if w.queue == nil {
		return
	}
	switch {
	case w.first && granted:
		w.queue.got(w.version)
		w.queue.turn.Release(1)
	case w.first && w.idle: // the next call has missed nothing
		w.queue.turn.Release(1)
	default:
		w.stepBack()
	}
	w.queues.leave(w.queue, &w.queued)
	w.leaveEvents()
}

// ask asks the backend who holds the lock, unless that is known already.
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
			own := lock != nil && bears(lock, w.mark)
			if !own {
				w.holder.is(lock)
			}
			switch {
			case q == nil:
			case own: // a create without a response made it
				q.notify(hintUnheard)
			default:
				q.found(lock, version)
				w.queues.tell(q, lock)
			}
		}
	})
}

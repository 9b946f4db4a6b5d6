package classic

import (
	"context"
	"time"
)

// silenceInQueue is how long a call stands in its queue while the backend says
// nothing, where its policy sets no limit.
const silenceInQueue = time.Minute

// await returns when the next create is due after r found the name held, or
// false when the call's context has ended.
func (c *call) await(r created) bool {
	c.holder.askOnce(askAfter - time.Since(c.r.Since))
	onServer := c.maxWait() > 0 && (r.wait == 0 || c.clock.Now().Sub(r.sent) > min(r.wait, time.Second)/2)
	fresh := (!onServer || c.r.Follow) && c.join()
	if onServer {
		return true // to queue there
	}
	c.poll = longerPoll(c.poll)
	if !c.first && !c.stand() {
		return c.ctx.Err() == nil
	}
	unseen := r.sent.IsZero() && !c.queue.isHeld()
	if fresh && c.events.pushed() || unseen || r.wait == 0 && c.maxWait() > 0 {
		return true // it may have come free before anybody listened, or the server can queue by now
	}
	if c.r.Follow && !c.events.pushed() {
		c.queue.unknown() // nobody says when the holder changes
	}
	if c.queue.holderID() == "" {
		c.holder.askIn(askAfter) // so that others' releases are known for what they are
	}
	return c.pace()
}

// pace returns when the pacer has the next create due, or false when the call's
// context has ended.
func (c *call) pace() bool {
	p := &c.queue.pace
	p.begin(time.Now(), c.poll, c.events.pushed())
	timer := time.NewTimer(time.Until(p.due()))
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-c.holder.mine:
			return true
		case <-c.queue.signal:
		}
		h, missed := c.queue.take()
		now := time.Now()
		p.hear(h, now, c.events.pushed(), c.queues.yield(c.queue.name, missed))
		c.woken = c.woken || h == hintReleased
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
func (c *call) letOthers() bool {
	if c.queues.waiting(c.r.Name) {
		return c.await(created{})
	}
	return sleep(c.ctx, c.queues.yield(c.r.Name, 0))
}

// join enters the call into its queue, and reports whether nobody listened for
// the name before.
func (c *call) join() (fresh bool) {
	if c.queue != nil {
		return false
	}
	c.queue, fresh = c.queues.join(c.r.Name, &c.member)
	c.leaveEvents = c.events.wait()
	return fresh
}

// stand returns true when all that waited before are served or have given up.
// It returns false when the call's context has ended, or when it has to ask all
// the same: a create without an answer may have made the very lock that the
// others wait for, or the first one learns nothing and may have more patience
// with the backend than this call has.
func (c *call) stand() bool {
	if !c.queue.turn.TryAcquire(1) {
		c.held = true
		ctx, end := c.whileHeard()
		defer end()
		c.holder.onOwn(end)
		defer c.holder.onOwn(nil)
		if c.unanswered > 0 {
			defer time.AfterFunc(c.poll-c.queue.pace.random(c.poll/2), end).Stop()
		}
		err := c.queue.turn.Acquire(ctx, 1)
		if heard := c.queue.lastHeard(); heard.After(c.heard) {
			c.heard = heard
		}
		if err != nil {
			return false
		}
	}
	c.first = true
	return true
}

// whileHeard returns a context derived from the call's that also ends when the
// backend has told nobody in the queue for too long who holds the lock. end ends
// it in any case.
func (c *call) whileHeard() (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	q, heard, patience := c.queue, c.heard, c.r.Patience
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
func (c *call) stepBack() {
	if c.first {
		c.first = false
		c.queue.stepBack()
	}
}

// leave ends the wait. The next call in the queue is the first one then.
func (c *call) leave(granted bool) {
	if c.queue == nil {
		return
	}
	if c.first && granted {
		c.queue.got(c.version)
		c.queue.turn.Release(1)
	} else {
		c.stepBack()
	}
	c.queues.leave(c.queue, &c.member)
	c.leaveEvents()
}

// ask asks the backend who holds the lock, unless that is known.
func (c *call) ask() {
	if q := c.queues.named(c.r.Name); c.holder.known() != nil && (q == nil || q.holderID() != "") {
		return
	}
	c.lists.next(func() func(*listing, error) {
		q := c.queues.named(c.r.Name)
		version := 0
		if q != nil {
			version = q.asking()
		}
		return func(list *listing, err error) {
			if err != nil {
				return
			}
			lock := list.holder(c.r.Name)
			c.holder.is(lock)
			if q != nil && (lock == nil || !bears(lock, c.mark)) {
				q.found(lock, version)
				c.queues.tell(q, lock)
			}
		}
	})
}

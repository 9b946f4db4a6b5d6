package classic

import (
	"math/rand/v2"
	"time"
)

// hint is a reason for the first call of a queue to ask the backend again. Of several that are
// pending the largest counts.
type hint int

const (
	hintNone     hint = iota
	hintPush          // push went up or down: the poll interval changes
	hintMaybe         // some lock was deleted, perhaps this one
	hintLikely        // a lock was deleted whose id no queue knows: probably this one
	hintUnheard       // this lock may have been deleted without an event
	hintReleased      // this lock was deleted
)

const (
	// Between two creates without a hint.
	pollFirst  = 250 * time.Millisecond // without push; doubles up to pollMax
	pollMax    = 5 * time.Second
	pollPushed = 30 * time.Second // while push is up, in case that an event was lost

	// From a broadcast that names no lock to the create.
	vagueFirst = 10 * time.Millisecond // for the second broadcast; doubles up to vagueMax
	vagueMax   = 250 * time.Millisecond
	vagueReset = time.Second // without such a broadcast, then the next has no delay

	// The budget for creates on broadcasts that name a lock.
	askEvery = 4 * time.Millisecond   // one create, on average
	askBurst = 200 * time.Millisecond // the largest budget: 50 creates

	// How long to leave a name to other processes.
	yieldFor      = 2 * time.Millisecond
	yieldForVague = listPause        // if they learn of a release only by a List
	contendedFor  = 10 * time.Second // after another process was last faster
)

// pacer decides when the first call of a queue sends its next create. It depends only on the hints,
// the time and the random numbers that it is given.
type pacer struct {
	random func(time.Duration) time.Duration // from 0 to less than its argument

	poll    time.Duration // interval without push, before jitter
	pollAt  time.Time     // when the next create is due without a hint
	askAt   time.Time     // when it is due because of a hint; zero: no hint is pending
	vague   time.Duration // delay after the next broadcast that names no lock
	vagueAt time.Time     // when the last such broadcast came
	paid    time.Time     // the budget is spent up to this time
}

func newPacer() pacer {
	return pacer{random: rand.N[time.Duration]}
}

// begin begins a wait after the backend has said that the name is held.
func (p *pacer) begin(now time.Time, poll time.Duration, pushed bool) {
	p.poll, p.askAt = poll, time.Time{}
	p.pollAt = now.Add(p.pause(pushed))
}

// longerPoll returns the interval that follows poll.
func longerPoll(poll time.Duration) time.Duration { return min(max(2*poll, pollFirst), pollMax) }

// pause returns how long to wait without a hint.
func (p *pacer) pause(pushed bool) time.Duration {
	d := p.poll
	if pushed {
		d = pollPushed
	}
	return d - p.random(d/2)
}

// hear handles a hint. yield is how long to leave the name to other processes first.
func (p *pacer) hear(h hint, now time.Time, pushed bool, yield time.Duration) {
	switch h {
	case hintPush:
		// A poll that is due earlier stays due.
		if at := now.Add(p.pause(pushed)); at.Before(p.pollAt) {
			p.pollAt = at
		}
	case hintUnheard:
		p.askBy(now)
	case hintReleased:
		p.vague = 0
		p.askBy(now.Add(max(yield, p.pay(now))))
	case hintLikely, hintMaybe:
		if p.askAt.IsZero() {
			p.askAt = now.Add(p.putOff(h, now, yield))
		}
	}
}

// putOff returns how long to wait after a broadcast that does not name this lock: not at all after
// the first one, and longer and longer while they come one after the other.
func (p *pacer) putOff(h hint, now time.Time, yield time.Duration) time.Duration {
	first := now.Sub(p.vagueAt) > vagueReset
	p.vagueAt = now
	switch {
	case h == hintLikely && first && yield == 0:
		return 0
	case h == hintLikely:
		return max(p.random(vagueFirst), p.pay(now))
	case first:
		p.vague = 0
	}
	pause := p.vague
	p.vague = min(max(2*pause, vagueFirst), vagueMax)
	return pause - p.random(pause/10+1)
}

// askBy makes a create due at the given time, or earlier if one is due by then.
func (p *pacer) askBy(at time.Time) {
	if p.askAt.IsZero() || at.Before(p.askAt) {
		p.askAt = at
	}
}

// pay takes one create from the budget, and returns how long to put it off. So a flood of
// broadcasts does not become a flood of creates.
func (p *pacer) pay(now time.Time) time.Duration {
	if earliest := now.Add(-askBurst); p.paid.Before(earliest) {
		p.paid = earliest
	}
	p.paid = p.paid.Add(askEvery)
	return max(0, p.paid.Sub(now))
}

// due returns when to send the next create.
func (p *pacer) due() time.Time {
	if !p.askAt.IsZero() && p.askAt.Before(p.pollAt) {
		return p.askAt
	}
	return p.pollAt
}

// yield returns how long to leave a name to other processes. contended is when another process was
// last faster; the zero time is never. The more releases this process has missed, the shorter it
// is, so that the process that has waited longest goes first. vague means that the others learn of
// a release only by a List.
func yield(now, contended time.Time, vague bool, missed int,
	random func(time.Duration) time.Duration,
) time.Duration {
	if contended.IsZero() || now.Sub(contended) > contendedFor {
		return 0
	}
	d := yieldFor
	if vague {
		d = yieldForVague
	}
	return (d/2 + random(d/2)) / time.Duration(max(1, missed))
}

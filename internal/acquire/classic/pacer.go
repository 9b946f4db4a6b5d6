package classic

import (
	"math/rand/v2"
	"time"
)

// hint says why the first call of a queue should ask the backend again. Where
// several are pending, the larger one counts.
type hint int

const (
	hintNone     hint = iota
	hintPush          // push has come or gone: poll at another pace
	hintMaybe         // some lock was released, perhaps this one
	hintLikely        // a lock was released whose id nobody here knows
	hintUnheard       // this lock may have been released while nobody listened
	hintReleased      // this lock was released
)

const (
	pollFirst  = 250 * time.Millisecond // without push; doubles up to pollMax
	pollMax    = 5 * time.Second
	pollPushed = 30 * time.Second // while push is up, in case it loses something

	vagueFirst = 10 * time.Millisecond
	vagueMax   = 250 * time.Millisecond // between two creates on broadcasts that name no lock
	vagueReset = time.Second            // without such broadcasts

	askEvery = 4 * time.Millisecond   // between two creates on broadcasts that name one, on average
	askBurst = 200 * time.Millisecond // worth of such creates may be sent without a pause

	yieldFor      = 2 * time.Millisecond // to other processes that want the same name
	yieldForVague = listPause            // where they learn of a release by a List only
	contendedFor  = 10 * time.Second     // a name counts as wanted elsewhere
)

// pacer decides when the first call of a queue asks the backend again. It knows
// nothing but what it is told and the time; chance comes from outside, too.
type pacer struct {
	random func(time.Duration) time.Duration // at least 0 and less than its argument

	poll    time.Duration // without push, before jitter
	pollAt  time.Time
	askAt   time.Time     // earlier than pollAt, because of a hint; zero: no hint is pending
	vague   time.Duration // how long the next broadcast that names no lock is put off
	vagueAt time.Time     // when the last one was heard
	paid    time.Time     // creates have used up the budget until then
}

func newPacer() pacer {
	return pacer{random: rand.N[time.Duration]}
}

// begin begins a wait, after the backend said that the name is held.
func (p *pacer) begin(now time.Time, poll time.Duration, pushed bool) {
	p.poll, p.askAt = poll, time.Time{}
	p.pollAt = now.Add(p.pause(pushed))
}

// longerPoll returns the interval that follows poll.
func longerPoll(poll time.Duration) time.Duration { return min(max(2*poll, pollFirst), pollMax) }

// pause is how long to wait without any hint.
func (p *pacer) pause(pushed bool) time.Duration {
	d := p.poll
	if pushed {
		d = pollPushed
	}
	return d - p.random(d/2)
}

// hear handles a hint. yield is how long to leave the name to other processes.
func (p *pacer) hear(h hint, now time.Time, pushed bool, yield time.Duration) {
	switch h {
	case hintUnheard:
		p.askBy(now)
	case hintReleased:
		p.vague = 0
		p.askBy(now.Add(max(yield, p.pay(now))))
	case hintLikely:
		if !p.askAt.IsZero() {
			break
		}
		if p.quietUntil(now) && yield == 0 {
			p.askBy(now)
		} else {
			p.askBy(now.Add(max(p.random(vagueFirst), p.pay(now))))
		}
	case hintMaybe:
		if !p.askAt.IsZero() {
			break
		}
		if p.quietUntil(now) {
			p.vague = 0
		}
		pause := p.vague
		p.vague = min(max(2*p.vague, vagueFirst), vagueMax)
		p.askBy(now.Add(pause - p.random(pause/10+1)))
	case hintPush:
		// Where push never was, the time that was waited already counts.
		if at := now.Add(p.pause(pushed)); at.Before(p.pollAt) {
			p.pollAt = at
		}
	}
}

// quietUntil records a broadcast that names no lock, and reports whether it is
// the first one for a while.
func (p *pacer) quietUntil(now time.Time) bool {
	quiet := now.Sub(p.vagueAt) > vagueReset
	p.vagueAt = now
	return quiet
}

func (p *pacer) askBy(at time.Time) {
	if p.askAt.IsZero() || at.Before(p.askAt) {
		p.askAt = at
	}
}

// pay returns how long to put off a create so that a flood of broadcasts does
// not become a flood of creates.
func (p *pacer) pay(now time.Time) time.Duration {
	if earliest := now.Add(-askBurst); p.paid.Before(earliest) {
		p.paid = earliest
	}
	p.paid = p.paid.Add(askEvery)
	return max(0, p.paid.Sub(now))
}

// due returns when to ask.
func (p *pacer) due() time.Time {
	if !p.askAt.IsZero() && p.askAt.Before(p.pollAt) {
		return p.askAt
	}
	return p.pollAt
}

// yield is how long to leave a name to other processes, which wanted it last at
// contended, after missed releases: the process that has waited for longest
// goes first. vague: they learn of a release by a List.
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

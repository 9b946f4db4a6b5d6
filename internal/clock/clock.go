// Package clock reads the monotonic and the wall clock together. The monotonic
// clock stands still while a machine is suspended, and the wall clock can be
// set; time that has passed on either of them counts as passed.
package clock

import (
	"sync"
	"sync/atomic"
	"time"
)

// Instant is one moment on both clocks. The zero Instant is no moment at all.
type Instant struct{ mono, wall time.Time }

// Add returns the moment d later.
func (i Instant) Add(d time.Duration) Instant { return Instant{i.mono.Add(d), i.wall.Add(d)} }

// Earlier returns, on each clock, the earlier of the two.
func (i Instant) Earlier(j Instant) Instant {
	if j.mono.Before(i.mono) {
		i.mono = j.mono
	}
	if j.wall.Before(i.wall) {
		i.wall = j.wall
	}
	return i
}

// Sub returns how long after j the moment i is, on the clock that says less.
func (i Instant) Sub(j Instant) time.Duration {
	return min(i.mono.Sub(j.mono), i.wall.Sub(j.wall))
}

// IsZero reports whether i is no moment at all.
func (i Instant) IsZero() bool { return i == Instant{} }

// Time returns the moment on the monotonic clock, for people and for package time.
func (i Instant) Time() time.Time { return i.mono }

const (
	checkEvery = time.Second    // between two looks at both clocks
	jump       = checkEvery / 4 // by which they may drift apart meanwhile
)

// Clock reads both clocks, and reports when they jump apart, as they do when
// the machine was suspended or the wall clock was set forward: timers do not
// notice that. While nobody watches for jumps it has no timer.
type Clock struct {
	Ahead atomic.Int64 // nanoseconds that the wall clock is set ahead of the system's, for tests

	mu      sync.Mutex
	watches map[*func()]struct{}
	tick    *time.Timer
	last    Instant // when it last ticked
	bells   bells   // of alarms
}

// Now returns the current moment.
func (c *Clock) Now() Instant {
	now := time.Now()
	return Instant{now, now.Round(0).Add(time.Duration(c.Ahead.Load()))}
}

// Alarm returns an alarm for f, which is called in a goroutine of its own. The caller calls Free.
func (c *Clock) Alarm(f func()) Alarm { return c.bells.alarm(f) }

// OnJump calls f, which must not block, within a second after the wall clock
// has jumped ahead, until stop is called.
func (c *Clock) OnJump(f func()) (stop func()) {
	key := &f
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watches == nil {
		c.watches = make(map[*func()]struct{})
	}
	c.watches[key] = struct{}{}
	if c.tick == nil {
		c.last = c.Now()
		c.tick = time.AfterFunc(checkEvery, c.check)
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watches, key)
		if len(c.watches) == 0 && c.tick != nil {
			c.tick.Stop()
			c.tick = nil
		}
	}
}

func (c *Clock) check() {
	c.mu.Lock()
	if c.tick == nil {
		c.mu.Unlock()
		return
	}
	now := c.Now()
	var told []func()
	if now.wall.Sub(c.last.wall)-now.mono.Sub(c.last.mono) > jump {
		for f := range c.watches {
			told = append(told, *f)
		}
	}
	c.last = now
	c.tick.Reset(checkEvery)
	c.mu.Unlock()
	for _, f := range told {
		f()
	}
}

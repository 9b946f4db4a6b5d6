package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// endTimeout is how long goroutines have to end once they are told to.
const endTimeout = 20 * time.Second

// contention is what goroutines did that compete for one lock.
type contention struct {
	rate    float64       // acquisitions a second
	changes float64       // of owner, a second
	spread  float64       // of the owners' shares, in %
	late    time.Duration // wait: one of 1,000 is longer
	longest time.Duration // wait, including those that have not ended
	cpu     time.Duration // of client and server, for each acquisition
}

// contest is the state that the goroutines share.
type contest struct {
	section          *section // nil: each has a lock of its own
	start            time.Time
	counting, ending atomic.Bool
	last             atomic.Int64 // the last one inside
	all              []contender
}

// contender is one of the goroutines.
type contender struct {
	count   int64
	changes int64
	waits   waits
	longest time.Duration
	began   atomic.Int64 // to wait, in ns since the start; 0: it does not wait
}

// contend lets one goroutine for each locker lock and unlock in a loop, after a warm-up. In s, if
// it is not nil, there must be one at a time.
func contend(
	ctx context.Context, m *measurement, s *section, lockers []locker,
) (contention, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &contest{section: s, start: time.Now(), all: make([]contender, len(lockers))}
	var running sync.WaitGroup
	failed := make(chan error, len(lockers))
	for i := range lockers {
		running.Go(func() {
			if err := c.run(ctx, i, lockers[i]); err != nil {
				failed <- err
				cancel(err)
			}
		})
	}

	sleep(ctx, warmUp)
	c.counting.Store(true)
	from, meter := time.Now(), newMeter(m.service.pids())
	sleep(ctx, m.d)
	c.counting.Store(false)
	took, used := time.Since(from).Seconds(), meter.used()
	waiting := c.waiting()
	c.ending.Store(true)
	cancel(nil)
	ended := make(chan struct{})
	go func() {
		running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(endTimeout):
		return contention{}, errors.New("some goroutines do not end")
	}
	select {
	case err := <-failed:
		return contention{}, err
	default:
	}
	r := c.result(took, waiting)
	r.cpu = time.Duration(float64(used) / max(1, r.rate*took))
	return r, nil
}

// run is contender i.
func (c *contest) run(ctx context.Context, i int, l locker) error {
	own, me := &c.all[i], int64(i+1)
	for !c.ending.Load() {
		began := time.Since(c.start)
		own.began.Store(int64(began))
		if err := l.lock(ctx); err != nil {
			if c.ending.Load() {
				return nil // its context was cancelled
			}
			return fmt.Errorf("lock: %w", err)
		}
		c.section.enter(me)
		own.began.Store(0)
		if c.counting.Load() {
			waited := time.Since(c.start) - began
			own.waits.add(waited)
			own.longest = max(own.longest, waited)
			own.count++
			if c.last.Load() != me {
				own.changes++
			}
		}
		c.last.Store(me)
		c.section.leave(me)
		if err := l.unlock(); err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
	}
	return nil
}

// waiting returns the longest wait that has not ended.
func (c *contest) waiting() time.Duration {
	var longest time.Duration
	for i := range c.all {
		if began := c.all[i].began.Load(); began != 0 {
			longest = max(longest, time.Since(c.start)-time.Duration(began))
		}
	}
	return longest
}

// result sums up the contenders, which have ended.
func (c *contest) result(took float64, waiting time.Duration) contention {
	var sum, changes, most int64
	fewest := c.all[0].count
	var all waits
	for i := range c.all {
		own := &c.all[i]
		sum, changes = sum+own.count, changes+own.changes
		most, fewest = max(most, own.count), min(fewest, own.count)
		waiting = max(waiting, own.longest)
		all.merge(&own.waits)
	}
	r := contention{rate: float64(sum) / took, changes: float64(changes) / took, longest: waiting,
		late: all.quantile(0.999)}
	if sum > 0 {
		r.spread = 100 * float64(most-fewest) * float64(len(c.all)) / float64(sum)
	}
	return r
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

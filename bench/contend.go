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

// contention is what goroutines did that all wanted one lock, again and again.
type contention struct {
	rate    float64       // acquisitions a second
	changes float64       // of owner, a second
	spread  float64       // of the owners' shares, in %
	longest time.Duration // wait, also one that has not ended
}

// contender is one of the goroutines.
type contender struct {
	count   int64
	changes int64
	longest time.Duration
	began   atomic.Int64 // to wait, in ns since the start; 0: it does not
}

// contend has one goroutine for each locker lock and unlock for d, after a while
// to warm up.
func contend(ctx context.Context, s *section, lockers []locker, d time.Duration) (
	contention, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var counting, ending atomic.Bool
	var last atomic.Int64 // who was inside
	all := make([]contender, len(lockers))
	start := time.Now()
	run := func(i int) error {
		c, l, me := &all[i], lockers[i], int64(i+1)
		for !ending.Load() {
			began := time.Since(start)
			c.began.Store(int64(began))
			if err := l.lock(ctx); err != nil {
				if ending.Load() {
					return nil // it is why it was called off
				}
				return fmt.Errorf("lock: %w", err)
			}
			s.enter(me)
			c.began.Store(0)
			if counting.Load() {
				c.longest = max(c.longest, time.Since(start)-began)
				c.count++
				if last.Load() != me {
					c.changes++
				}
			}
			last.Store(me)
			s.leave(me)
			if err := l.unlock(); err != nil {
				return fmt.Errorf("unlock: %w", err)
			}
		}
		return nil
	}
	var running sync.WaitGroup
	failed := make(chan error, len(lockers))
	for i := range lockers {
		running.Go(func() {
			if err := run(i); err != nil {
				failed <- err
				cancel(err)
			}
		})
	}

	sleep(ctx, warmUp)
	counting.Store(true)
	from := time.Now()
	sleep(ctx, d)
	counting.Store(false)
	took := time.Since(from).Seconds()
	var waiting time.Duration // the longest wait that is still going on
	for i := range all {
		if began := all[i].began.Load(); began != 0 {
			waiting = max(waiting, time.Since(start)-time.Duration(began))
		}
	}
	ending.Store(true)
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

	var sum, changes, most int64
	fewest := all[0].count
	for i := range all {
		c := &all[i]
		sum, changes = sum+c.count, changes+c.changes
		most, fewest = max(most, c.count), min(fewest, c.count)
		waiting = max(waiting, c.longest)
	}
	result := contention{rate: float64(sum) / took, changes: float64(changes) / took,
		longest: waiting}
	if sum > 0 {
		result.spread = 100 * float64(most-fewest) * float64(len(all)) / float64(sum)
	}
	return result, nil
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

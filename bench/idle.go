package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	idleWaiters = 50
	idleSettle  = 3 * time.Second // until all wait, and what it took is counted
)

// idler is one peer whose waiters do nothing but wait.
type idler struct {
	m       *measurement
	before  float64
	figures figures

	mu  sync.Mutex
	err error // the first
}

func (i *idler) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
	}
}

func (i *idler) failed() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err != nil
}

// measureIdle counts what 50 waiters, with a client each, ask of the server
// while somebody holds the lock. There is hardly any load, but it takes long: so
// it is done with all peers at once. It returns one answer for each.
func measureIdle(ctx context.Context, all []*measurement, d time.Duration) []*idler {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var idlers []*idler
	var waiting sync.WaitGroup
	for _, m := range all {
		i := &idler{m: m}
		idlers = append(idlers, i)
		if err := i.begin(ctx, &waiting); err != nil {
			i.fail(err)
		}
	}
	sleep(ctx, idleSettle)
	for _, i := range idlers {
		i.note(ctx, func(n float64) { i.before = n })
	}
	start := time.Now()
	sleep(ctx, d)
	for _, i := range idlers {
		i.note(ctx, func(n float64) {
			i.figures = figures{idleRequests: (n - i.before) / time.Since(start).Seconds()}
		})
	}
	cancel()
	waiting.Wait()
	return idlers
}

// begin has one client hold the lock and the others wait.
func (i *idler) begin(ctx context.Context, waiting *sync.WaitGroup) error {
	var lockers []locker
	for range idleWaiters + 1 {
		c, err := i.m.connect(ctx, true)
		if err != nil {
			return err
		}
		l, err := c.lockers(ctx, i.m.lock, 1)
		if err != nil {
			return err
		}
		lockers = append(lockers, l...)
	}
	holder, lockers := lockers[0], lockers[1:]
	// It holds until the waiters have gone.
	if err := holder.lock(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	var released sync.WaitGroup
	for _, l := range lockers {
		released.Add(1)
		waiting.Go(func() {
			defer released.Done()
			err := l.lock(ctx)
			if err == nil {
				i.m.section.overlaps.Add(1) // the holder had it still
				err = l.unlock()
			}
			if err != nil && ctx.Err() == nil {
				i.fail(fmt.Errorf("a waiter: %w", err))
			}
		})
	}
	waiting.Go(func() {
		<-ctx.Done()
		released.Wait()
		if err := holder.unlock(); err != nil {
			i.fail(fmt.Errorf("the holder: %w", err))
		}
	})
	return nil
}

func (i *idler) note(ctx context.Context, take func(float64)) {
	if i.failed() {
		return
	}
	n, err := i.m.service.requests(ctx)
	if err != nil {
		i.fail(err)
		return
	}
	take(n)
}

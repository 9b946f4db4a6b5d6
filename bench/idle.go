package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	idleWaiters = 50
	idleSettle  = 3 * time.Second // until all wait and their first requests are over
)

// idler is one peer with waiters that only wait.
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

// measureIdle counts the requests of 50 waiters, with a client each, while the lock
// is held. There is hardly any load, but it takes long, so all peers are measured
// at the same time. It returns one idler for each.
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

// begin makes one client hold the lock and the others wait.
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
	// The holder keeps it until the waiters have ended.
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
				i.m.section.overlaps.Add(1) // the holder still has it
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

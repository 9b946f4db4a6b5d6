package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// The next waiter waits for at least this long before the lock is released, and up
// to twice as long, so that pollers are met at any time of their pause, and never
// a waiter that has just begun.
const waitBefore = 120 * time.Millisecond

const leastHandoffs = 5

// measureHandoff passes a lock to and fro between two clients. The time runs from
// before the holder's Unlock until the waiter's Lock has returned.
func measureHandoff(ctx context.Context, m *measurement) (figures, error) {
	var lockers []locker
	for range 2 {
		c, err := m.connect(ctx, false)
		if err != nil {
			return nil, err
		}
		l, err := c.lockers(ctx, m.lock, 1)
		if err != nil {
			return nil, err
		}
		lockers = append(lockers, l...)
	}
	holder, waiter := 0, 1
	if err := lockers[holder].lock(ctx); err != nil {
		return nil, err
	}
	m.section.enter(int64(holder + 1))
	type had struct {
		at  time.Time
		err error
	}
	var took []time.Duration
	for start := time.Now(); time.Since(start) < 2*m.d || len(took) < leastHandoffs; {
		got := make(chan had, 1)
		go func() {
			err := lockers[waiter].lock(ctx)
			got <- had{time.Now(), err}
		}()
		time.Sleep(waitBefore + rand.N(waitBefore))
		m.section.leave(int64(holder + 1))
		released := time.Now()
		if err := lockers[holder].unlock(); err != nil {
			return nil, err
		}
		next := <-got
		if next.err != nil {
			return nil, next.err
		}
		m.section.enter(int64(waiter + 1))
		took = append(took, next.at.Sub(released))
		holder, waiter = waiter, holder
	}
	m.section.leave(int64(holder + 1))
	if err := lockers[holder].unlock(); err != nil {
		return nil, err
	}
	took = took[1:] // the first one may have paid for a connection
	return figures{handoffMedian: micros(quantile(took, 0.5)),
		handoffLate: micros(quantile(took, 0.95))}, nil
}

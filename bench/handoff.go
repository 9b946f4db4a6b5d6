package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// The next waiter waits for at least this long before the lock is released. After coldWait, and
// up to twice as long, pollers are met at any time of their pause, but caches are cold by then,
// and processors asleep; after warmWait, and up to three times as long, they are not.
const (
	coldWait = 120 * time.Millisecond
	warmWait = time.Millisecond
)

const leastHandoffs = 5

func measureHandoff(ctx context.Context, m *measurement) (figures, error) {
	took, err := m.handoffs(ctx, func() time.Duration { return coldWait + rand.N(coldWait) })
	return figures{
		handoffMedian: micros(quantile(took, 0.5)),
		handoffLate:   micros(quantile(took, 0.95)),
	}, err
}

func measureWarmHandoff(ctx context.Context, m *measurement) (figures, error) {
	took, err := m.handoffs(ctx, func() time.Duration { return warmWait + rand.N(2*warmWait) })
	return figures{
		warmMedian: micros(quantile(took, 0.5)),
		warmLate:   micros(quantile(took, 0.95)),
	}, err
}

// handoffs passes a lock to and fro between two clients, each time after the other one has waited
// for a while. The times run from before the holder's Unlock until the waiter's Lock has returned.
func (m *measurement) handoffs(
	ctx context.Context, wait func() time.Duration,
) ([]time.Duration, error) {
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
		time.Sleep(wait())
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
	return took[1:], nil // the first one may have paid for a connection
}

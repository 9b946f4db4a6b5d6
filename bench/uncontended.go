package main

import (
	"context"
	"runtime"
	"time"
)

const (
	warmUp          = 300 * time.Millisecond // until connections are there and caches are warm
	allocationCount = 200                    // rounds whose allocations are counted
)

// uncontendedRound connects a client. It returns a function that locks and unlocks a lock that
// nothing else wants.
func (m *measurement) uncontendedRound(ctx context.Context) (func() error, error) {
	c, err := m.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	lockers, err := c.lockers(ctx, m.lock, 1)
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := lockers[0].lock(ctx); err != nil {
			return err
		}
		m.section.enter(1)
		m.section.leave(1)
		return lockers[0].unlock()
	}, nil
}

// measureUncontended locks and unlocks a lock that nothing else wants. Where our client uses plain
// requests it alternates with bare ones.
func measureUncontended(ctx context.Context, m *measurement) (figures, error) {
	round, err := m.uncontendedRound(ctx)
	if err != nil {
		return nil, err
	}
	var bareRound func() error
	if r, ok := m.service.(*relukkoService); ok && r.plain {
		b := r.bare(m.lock + "-bare")
		defer b.close()
		bareRound = func() error { return b.round(ctx) }
	}

	var took, tookBare []time.Duration
	for start := time.Now(); time.Since(start) < warmUp+m.d; {
		one, err := timed(round)
		if err != nil {
			return nil, err
		}
		var other time.Duration
		if bareRound != nil {
			if other, err = timed(bareRound); err != nil {
				return nil, err
			}
		}
		if time.Since(start) > warmUp {
			took, tookBare = append(took, one), append(tookBare, other)
		}
	}
	f := figures{uncontended: micros(quantile(took, 0.5))}
	if bareRound != nil {
		f[bare] = micros(quantile(tookBare, 0.5))
		with, err := allocated(round)
		if err != nil {
			return nil, err
		}
		without, err := allocated(bareRound)
		if err != nil {
			return nil, err
		}
		f[allocations] = with - without
	}
	return f, nil
}

func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// allocated returns the number of allocations of one f, including those of other
// goroutines that work for it.
func allocated(f func() error) (float64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range allocationCount {
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / allocationCount, nil
}

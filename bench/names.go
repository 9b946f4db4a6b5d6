package main

import (
	"context"
	"fmt"
)

// namesCount is how many locks one client uses at the same time.
const namesCount = 100

// measureNames lets goroutines of one client lock and unlock, each a lock of its own.
func measureNames(ctx context.Context, m *measurement) (figures, error) {
	c, err := m.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	var lockers []locker
	for i := range namesCount {
		l, err := c.lockers(ctx, fmt.Sprintf("%s-%d", m.lock, i), 1)
		if err != nil {
			return nil, err
		}
		lockers = append(lockers, l...)
	}
	got, err := contend(ctx, m, nil, lockers)
	if err != nil {
		return nil, err
	}
	return figures{namesRate: got.rate, namesCPU: micros(got.cpu)}, nil
}

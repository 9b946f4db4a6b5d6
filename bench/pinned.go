package main

import (
	"context"
	"errors"
	"os"
	"time"
)

// pinnedWarmUp is longer than warmUp: a Go program notices only within a second how many
// processors it may use.
const pinnedWarmUp = 1500 * time.Millisecond

// measurePinned measures what measureUncontended does, with all processes on one processor, or
// with the client on one and the server on another. Unpinned, the median depends on where the
// system's scheduler puts the processes: waking one up on another processor costs more than all
// the rest.
func measurePinned(ctx context.Context, m *measurement, two bool) (f figures, err error) {
	all := processors()
	if len(all) < 2 {
		return nil, nil
	}
	own, server := []int{os.Getpid()}, m.service.pids()
	at, metric, used := all[0], pinnedOne, pinnedOneCPU
	if two {
		at, metric, used = all[1], pinnedTwo, pinnedTwoCPU
	}
	defer func() {
		err = errors.Join(err, pin(own, all...), pin(m.service.pids(), all...))
	}()
	if err := errors.Join(pin(own, at), pin(server, all[0])); err != nil {
		return nil, err
	}
	round, err := m.uncontendedRound(ctx)
	if err != nil {
		return nil, err
	}
	for start := time.Now(); time.Since(start) < pinnedWarmUp; {
		if err := round(); err != nil {
			return nil, err
		}
	}
	var took []time.Duration
	meter := newMeter(m.service.pids())
	for start := time.Now(); time.Since(start) < m.d; {
		one, err := timed(round)
		if err != nil {
			return nil, err
		}
		took = append(took, one)
	}
	return figures{
		metric: micros(quantile(took, 0.5)),
		used:   micros(meter.used()) / float64(len(took)),
	}, nil
}

package engine

import (
	"context"
	"math"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// sweep deletes expired locks after their grace until the engine stops.
func (e *Engine) sweep() {
	sw := &e.sweeper
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-e.stopped.Done():
			return
		case <-sw.wake:
		case <-timer.C:
		}
		if left := time.Duration(sw.at.Load()) - time.Since(sw.start); left > 0 {
			timer.Reset(left)
			continue
		}
		sw.at.Store(math.MaxInt64) // what is expected from here on may be too late for this sweep
		next := maxSweepPause
		err := e.guarded(func() (err error) {
			next, err = e.sweepOnce()
			return err
		})
		if err != nil && !failing {
			e.Log.Warn("cannot sweep expired locks, trying again each second", "error", err)
		}
		failing = err != nil
		if next != store.Never {
			sw.within(next)
		}
	}
}

// sweepOnce returns the pause until the next sweep.
func (e *Engine) sweepOnce() (time.Duration, error) {
	began := time.Now()
	limits := e.sweeper.clock.limits(began)
	limits.Grace = e.Grace
	swept, err := e.store.Sweep(context.Background(), limits)
	if err != nil {
		return maxSweepPause, err
	}
	e.sweeper.clock.looked(began, time.Now(), swept.Now)
	e.do(func() {
		for i := range swept.Locks {
			e.deleted(&swept.Locks[i], "", nil)
		}
	})
	e.Flush()
	return swept.Next, nil
}

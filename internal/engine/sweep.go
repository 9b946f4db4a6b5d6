package engine

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// maxSweepPause bounds the time between two looks at the store while it has locks, because clocks
// are set and machines sleep. A look costs little when nothing is due.
const maxSweepPause = time.Second

// sweeper knows when the next lock is due.
type sweeper struct {
	start time.Time
	at    atomic.Int64 // since start, in nanoseconds
	bell  chan struct{}
}

func (sw *sweeper) init() {
	sw.start = time.Now()
	sw.bell = make(chan struct{}, 1)
}

// expect makes sure that the lock, which was created or changed just now, is swept in time.
func (sw *sweeper) expect(lock *store.Lock, grace time.Duration) {
	left := lock.ExpiresAt.Sub(lock.UpdatedAt) // by the store's clock
	sw.within(min(left, maxSweepPause) + grace)
}

// within makes sure that the store is swept d from now at the latest.
func (sw *sweeper) within(d time.Duration) {
	at := int64(time.Since(sw.start) + min(max(d, 0), maxSweepPause))
	for {
		old := sw.at.Load()
		if at >= old {
			return
		}
		if sw.at.CompareAndSwap(old, at) {
			break
		}
	}
	select {
	case sw.bell <- struct{}{}:
	default:
	}
}

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
		case <-sw.bell:
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
	swept, next, err := e.store.Sweep(context.Background(), e.Grace)
	if err != nil {
		return maxSweepPause, err
	}
	for i := range swept {
		e.deleted(&swept[i])
	}
	if e.deleteOrphans() {
		next = min(next, maxSweepPause)
	}
	e.Flush()
	return next, nil
}

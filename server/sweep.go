package server

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// maxSweepPause bounds the time between two looks at the store while it has locks: clocks get set and machines sleep,
// and the timer would not know. A look costs nothing when nothing is due.
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

// expect sees to it that the lock, as it was made or changed just now, is swept in time.
func (sw *sweeper) expect(lock *Lock, grace time.Duration) {
	left := lock.ExpiresAt.Sub(lock.UpdatedAt) // by the store's clock, whatever it reads
	sw.within(min(left, maxSweepPause) + grace)
}

// within sees to it that the store is looked at d from now at the latest.
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

// sweep deletes expired locks after their grace until the server stops. One timer, set to when the next is due.
func (s *Server) sweep() {
	sw := &s.sweeper
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-s.stopped.Done():
			return
		case <-sw.bell:
		case <-timer.C:
		}
		if left := time.Duration(sw.at.Load()) - time.Since(sw.start); left > 0 {
			timer.Reset(left)
			continue
		}
		sw.at.Store(math.MaxInt64) // what is expected from here on may have come too late for this sweep
		next := maxSweepPause
		err := s.guarded(func() (err error) {
			next, err = s.sweepOnce()
			return err
		})
		if err != nil && !failing {
			s.log.Warn("expired locks can't be swept now, trying again each second", "error", err)
		}
		failing = err != nil
		if next != Never {
			sw.within(next)
		}
	}
}

// sweepOnce answers when to sweep next.
func (s *Server) sweepOnce() (time.Duration, error) {
	swept, next, err := s.store.Sweep(context.Background(), s.grace)
	if err != nil {
		return maxSweepPause, err
	}
	for i := range swept {
		s.removed(&swept[i])
	}
	if s.removeStrays() {
		next = min(next, maxSweepPause)
	}
	s.hub.announce(nil)
	return next, nil
}

package engine

import (
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
	wake  chan struct{}
	clock storeClock // used by the goroutine that sweeps only
}

func (sw *sweeper) init() {
	sw.start = time.Now()
	sw.wake = make(chan struct{}, 1)
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
	case sw.wake <- struct{}{}:
	default:
	}
}

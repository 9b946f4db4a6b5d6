//go:build linux

package soak

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// instant is a reading of CLOCK_MONOTONIC: all processes of a machine see the
// same one, and it goes on while they are stopped.
type instant time.Duration

func now() instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return instant(ts.Nano())
}

func (i instant) add(d time.Duration) instant { return i + instant(d) }

// span is a stretch of time, both ends included.
type span struct{ from, to instant }

func (s span) meets(o span) bool { return s.from <= o.to && o.from <= s.to }

// pause returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func between(least, most time.Duration) time.Duration { return least + rand.N(most-least) }

//go:build !race

// Package bubble runs tests in bubbles of testing/synctest, also with the race detector.
//
// In Go 1.26 the race detector crashes in bubbles, with a SIGSEGV or a failed check: it has one
// context for all timers of a bubble, which two threads must not use at the same time. They do when
// goroutines receive from channels of timers that are due. Once https://go.dev/issue/78156 is
// closed, and go.mod requires a Go that has the fix, this package can go.
package bubble

import (
	"testing"
	"testing/synctest"
)

// Test is [synctest.Test]. With the race detector one bubble runs at a time, and while it does the
// whole process has one processor (GOMAXPROCS), so that only one thread fires timers.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

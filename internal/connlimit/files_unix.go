//go:build unix

package connlimit

import (
	"os"
	"syscall"
)

// minUsed is how many file descriptors a program has open at least: for its streams, its log, the
// poller of the Go runtime, a listener.
const minUsed = 8

// Files returns how many files the process may have open, and how many it has. Package os has
// raised the soft limit to the hard one when the program started.
func Files() (limit, used int) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return unlimited, minUsed
	}
	open, _ := os.ReadDir("/dev/fd")
	return int(min(uint64(r.Cur), unlimited)), max(len(open), minUsed)
}

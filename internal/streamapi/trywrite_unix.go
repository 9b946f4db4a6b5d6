//go:build unix

package streamapi

import "syscall"

// tryWrite writes what the network takes without waiting, and returns how much that is.
func tryWrite(network syscall.RawConn, p []byte) (n int) {
	_ = network.Write(func(fd uintptr) bool {
		n, _ = syscall.Write(int(fd), p)
		return true
	})
	return max(n, 0) // after an error the next write has it too
}

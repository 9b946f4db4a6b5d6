// Package rawio reads and writes sockets with less work for Go's scheduler.
//
// Go expects of each system call that it may block, and then gives its processor to other
// goroutines. For that a thread of the runtime (sysmon) wakes up and takes turns with the program
// for a while. Reads and writes of Go's sockets never block, though, since these are non-blocking.
// So this package makes them without telling Go's scheduler, and two programs on one processor
// exchange small messages in 60 % of the time (docs/performance.md).
//
// This is for Linux. Elsewhere, and where a race detector or sanitizer must see what is read and
// written, the package makes ordinary calls.
package rawio

import (
	"net"
	"syscall"
)

// New returns a connection that is conn, with faster reads and writes where that is possible: conn
// is a [*net.TCPConn] or a [*net.UnixConn] of a stream.
func New(conn net.Conn) net.Conn { return wrap(conn) }

// TryWrite writes what the network takes without waiting, and returns how much that is: nothing
// where it is not known how to do so. An error is left to the next Write.
func TryWrite(raw syscall.RawConn, p []byte) (n int) {
	_ = raw.Write(func(fd uintptr) bool {
		n, _ = write(fd, p)
		return true
	})
	return n
}

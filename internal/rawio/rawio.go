// Package rawio reads and writes sockets with less work for Go's scheduler.
//
// Go expects of each system call that it may block: it notes the call, so that other goroutines can
// have its processor meanwhile, and wakes the thread that looks after such calls. That thread then
// takes turns with the program for a while. A read or a write of Go's sockets never blocks, though,
// since they are non-blocking, and where messages are small it costs as much as the call itself.
// Without it two Go programs on one processor exchange messages in little more than half the time
// (docs/performance.md).
//
// This is for Linux. Elsewhere, and where the race detector must see what is read and written, the
// package makes ordinary calls.
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

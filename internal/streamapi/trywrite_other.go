//go:build !unix

package streamapi

import "syscall"

// tryWrite writes nothing: it is not known how to do so without waiting.
func tryWrite(syscall.RawConn, []byte) int { return 0 }

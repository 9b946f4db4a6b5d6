//go:build !windows && !plan9 && !solaris && !aix

package boltstore

import (
	"os"
	"syscall"
)

// unlock gives up the lock by which bbolt has a file to itself.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

//go:build !windows && !plan9 && !solaris && !aix

package boltstore

import (
	"os"
	"syscall"
)

// unlock releases bbolt's lock on a file.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

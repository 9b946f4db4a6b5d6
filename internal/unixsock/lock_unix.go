//go:build !windows && !plan9 && !solaris && !aix

package unixsock

import (
	"os"
	"syscall"
	"time"
)

// lockTime bounds the wait for a lock on a directory: any program can have one.
const lockTime = time.Second

// lockDir keeps other servers from looking for stale sockets in dir until unlock is called, as far
// as the file system has such locks.
func lockDir(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(lockTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			break
		}
	}
	return func() { f.Close() }
}

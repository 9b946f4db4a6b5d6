//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package supervise

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
)

// These systems have nothing of the kind, see orphans_linux.go.
func dieWithParent(*syscall.SysProcAttr) {}
func adoptOrphans() bool                 { return false }
func detached(int) []int                 { return nil }
func ignored(sig syscall.Signal) bool    { return signal.Ignored(sig) }
func stopForTerminal() (undo func())     { return func() {} }

// stopSelf stops this process by a signal that is never caught: after a signal
// was caught once, Go does not restore its default.
func stopSelf(syscall.Signal) { _ = syscall.Kill(os.Getpid(), syscall.SIGTTIN) }

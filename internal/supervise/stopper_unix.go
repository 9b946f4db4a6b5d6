//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package supervise

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// stopTime is how long it can take to be stopped.
const stopTime = 100 * time.Millisecond

// stopper stops this process as the terminal would have.
type stopper struct {
	signals   chan os.Signal
	continued chan os.Signal // SIGCONT
}

func newStopper(signals chan os.Signal) stopper {
	s := stopper{signals: signals, continued: make(chan os.Signal, 1)}
	signal.Notify(s.continued, syscall.SIGCONT)
	return s
}

// stop stops our own group and returns when it is continued. By sig our parent,
// which may be another supervisor, learns whether we want the terminal or were
// asked to stop. In $(…) only another supervisor can continue us: it has restored the
// defaults of the signals by which we ask it for the terminal. stop returns false
// where no process is there that could continue us: then the system does not let us
// be stopped either.
func (s stopper) stop(sig syscall.Signal) bool {
	alone := ignored(syscall.SIGTSTP)
	if alone && (sig == syscall.SIGTSTP || ignored(sig)) {
		return false // in $(…) the shell, which waits for us, could not go on
	}
	select {
	case <-s.continued:
	default:
	}
	if !alone {
		// First the others of the group, without us: the signal is ignored here.
		signal.Ignore(syscall.SIGTSTP)
		_ = syscall.Kill(0, syscall.SIGTSTP)
		signal.Notify(s.signals, syscall.SIGTSTP)
	}
	stopSelf(sig)
	select {
	case <-s.continued:
		return true
	case <-time.After(stopTime):
		return false
	}
}

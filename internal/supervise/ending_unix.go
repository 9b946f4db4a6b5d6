//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package supervise

import (
	"fmt"
	"syscall"
	"time"
)

const (
	killTime  = time.Second           // that SIGKILL may take
	lookEvery = 10 * time.Millisecond // for whether anything of a group is left
)

// ending ends the process group of a child, and its other descendants.
type ending struct {
	child  *child
	kill   *time.Timer
	killAt time.Time        // when kill fires; zero: never
	look   <-chan time.Time // set where the group must be watched
	giveUp <-chan time.Time // set by SIGKILL
	told   bool             // the descendants outside the group were told to end

	remaining error // why some of it is still there, after SIGKILL
}

func newEnding(ch *child) *ending {
	e := &ending{child: ch, kill: time.NewTimer(time.Hour)}
	e.kill.Stop()
	return e
}

// terminate asks the group to end.
func (e *ending) terminate() {
	_ = e.child.signal(syscall.SIGTERM)
	_ = e.child.signal(syscall.SIGCONT) // a stopped process would not handle it
}

// killIn sets the time of the SIGKILL, which can only move closer.
func (e *ending) killIn(d time.Duration) {
	at := time.Now().Add(d)
	if e.killAt.IsZero() || at.Before(e.killAt) {
		e.killAt = at
		e.kill.Reset(d)
	}
}

func (e *ending) killNow() {
	e.kill.Stop()
	if e.giveUp != nil {
		return
	}
	e.giveUp = time.After(killTime)
	e.remaining = fmt.Errorf("process group %d has not ended within %s of SIGKILL",
		e.child.pid, killTime)
	if err := e.child.signal(syscall.SIGKILL); err != nil {
		e.remaining = fmt.Errorf("process group %d cannot be killed: %w", e.child.pid, err)
	}
	signalAll(e.child.detached(), syscall.SIGKILL)
}

// complete reports whether nothing is left of the group, nor of the descendants
// outside it. These are told to end only when the group is gone: a shell or
// another supervisor in it ends its own children, and none is to be told twice.
// SIGKILL is for all of them.
func (e *ending) complete() bool {
	if !e.child.gone() {
		return false
	}
	left := e.child.detached()
	switch {
	case len(left) == 0:
		e.remaining = nil
		return true
	case e.giveUp != nil:
		signalAll(left, syscall.SIGKILL) // some may be new
	case !e.told:
		e.told = true
		signalAll(left, syscall.SIGTERM)
		signalAll(left, syscall.SIGCONT)
	}
	return false
}

func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
	}
}

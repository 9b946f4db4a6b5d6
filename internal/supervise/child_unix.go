//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package supervise

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// child is a command that was started, the leader of a process group.
type child struct {
	pid     int                     // and that of its group
	changes chan syscall.WaitStatus // it was stopped, or has ended
	alone   bool                    // all our other children are its descendants

	undelivered func(os.Signal, error)
}

// start starts the command, in the foreground of the terminal if it should have
// that from the start.
func start(c *Command, tty *terminal) (*child, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if tty.interactive() {
		attr.Foreground, attr.Ctty = true, tty.fd
	}
	dieWithParent(attr)
	ch := &child{
		changes: make(chan syscall.WaitStatus, 16), alone: adoptOrphans(),
		undelivered: c.OnUndelivered,
	}
	started := make(chan error)
	go func() {
		// The signal that the child gets when its parent dies is tied to the
		// thread that started it: this goroutine keeps that thread.
		runtime.LockOSThread()
		undo := func() {}
		if tty.ours() {
			undo = stopForTerminal()
		}
		var err error
		ch.pid, err = syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{
			Env: c.Env, Files: []uintptr{0, 1, 2}, Sys: attr,
		})
		undo()
		started <- err
		if err == nil {
			ch.wait()
		}
	}()
	if err := <-started; err != nil {
		if attr.Foreground {
			tty.regain() // the child may have had it before exec failed
		}
		return nil, err
	}
	if attr.Foreground {
		tty.given, tty.wanted = true, true
	}
	return ch, nil
}

// wait reports the changes of the child, and reaps all others that are ours.
func (ch *child) wait() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return
		case pid == ch.pid:
			ch.changes <- status
		}
	}
}

// signal sends a signal to the group, if anything is left of it.
func (ch *child) signal(sig syscall.Signal) error { return ch.send(-ch.pid, sig) }

// signalAlone sends a signal to the command itself.
func (ch *child) signalAlone(sig syscall.Signal) error { return ch.send(ch.pid, sig) }

func (ch *child) send(pid int, sig syscall.Signal) error {
	err := syscall.Kill(pid, sig)
	if err == nil || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if ch.undelivered != nil {
		ch.undelivered(sig, err)
	}
	return err
}

// gone reports whether nothing of the group is left.
func (ch *child) gone() bool {
	return errors.Is(syscall.Kill(-ch.pid, 0), syscall.ESRCH)
}

// detached returns the descendants that have left the group.
func (ch *child) detached() []int {
	if !ch.alone {
		return nil
	}
	return detached(ch.pid)
}

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"errors"
	"runtime"
	"syscall"
)

// child is a command that was started, the leader of a process group.
type child struct {
	pid     int                     // and that of its group
	changes chan syscall.WaitStatus // it was stopped, or has ended
	alone   bool                    // all other children of ours are its descendants
}

// start starts the command, in the foreground of the terminal if that is given
// to it.
func start(c *command, tty *terminal) (*child, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if tty.interactive() {
		attr.Foreground, attr.Ctty = true, tty.fd
	}
	dieWithParent(attr)
	ch := &child{changes: make(chan syscall.WaitStatus, 16), alone: adoptOrphans()}
	started := make(chan error)
	go func() {
		// The signal that the child gets when its parent dies is tied to the
		// thread that started it: this goroutine keeps that one until the end.
		runtime.LockOSThread()
		pid, err := syscall.ForkExec(c.path, c.argv, &syscall.ProcAttr{Env: c.env, Files: []uintptr{0, 1, 2}, Sys: attr})
		ch.pid = pid
		started <- err
		if err == nil {
			ch.wait()
		}
	}()
	if err := <-started; err != nil {
		if attr.Foreground {
			tty.regain() // it may have gone to a child that then could not be
		}
		return nil, err
	}
	if attr.Foreground {
		tty.given, tty.wanted = true, true
	}
	return ch, nil
}

// wait tells what becomes of the child, and buries whoever else is ours.
func (ch *child) wait() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return
		case pid == ch.pid:
			ch.changes <- ws
		}
	}
}

// signal sends a signal to the whole group.
func (ch *child) signal(sig syscall.Signal) error {
	if err := syscall.Kill(-ch.pid, sig); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// gone reports whether nothing of the group is left.
func (ch *child) gone() bool {
	return errors.Is(syscall.Kill(-ch.pid, 0), syscall.ESRCH)
}

// strays are those who come from the child but have left its group.
func (ch *child) strays() []int {
	if !ch.alone {
		return nil
	}
	return strays(ch.pid)
}

func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
	}
}

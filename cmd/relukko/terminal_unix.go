//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the one that controls us. A nil terminal is none.
type terminal struct {
	fd     int
	own    int  // our process group
	given  bool // the child's has it
	wanted bool // and wants it again when it goes on
	modes  *unix.Termios
}

func openTerminal() *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	t := &terminal{fd: fd, own: unix.Getpgrp()}
	t.modes, _ = unix.IoctlGetTermios(fd, getTermios)
	return t
}

// foreground is the process group that may read from the terminal; 0 for none.
func (t *terminal) foreground() int {
	if t == nil {
		return 0
	}
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// ours reports whether it is our own group.
func (t *terminal) ours() bool { return t != nil && t.foreground() == t.own }

// interactive reports whether a child should have the terminal from the start.
// In a pipeline it gets it only when it asks: others of the pipeline, a pager,
// may want it.
func (t *terminal) interactive() bool {
	return t.ours() && width(0) > 0 && width(1) > 0
}

// give hands the terminal to a group.
func (t *terminal) give(group int) {
	t.given = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group) == nil
	t.wanted = true
}

// takeBack takes the terminal back, if it was given away.
func (t *terminal) takeBack() (had bool) {
	if t == nil || !t.given {
		return false
	}
	t.regain()
	t.given = false
	return true
}

// regain makes our own group the one in the foreground, which it can from the
// background only while SIGTTOU is ignored.
func (t *terminal) regain() {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, t.own)
}

// restore undoes what a program that was killed has done to the terminal.
func (t *terminal) restore() {
	if t.ours() && t.modes != nil {
		_ = unix.IoctlSetTermios(t.fd, setTermios, t.modes)
	}
}

// width is that of the terminal that fd is, 0 where it is none.
func width(fd int) int {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 { // it does not know
		return 80
	}
	return int(size.Col)
}

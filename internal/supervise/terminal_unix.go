//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package supervise

import (
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the controlling terminal of this process. A nil terminal is none.
type terminal struct {
	fd     int
	own    int  // our process group
	given  bool // to the child's group
	wanted bool // the child's group should have it when it is continued
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

// foreground returns the process group that may read from the terminal; 0 for
// none.
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

// ours reports whether our own group has the terminal.
func (t *terminal) ours() bool { return t != nil && t.foreground() == t.own }

// interactive reports whether a child should have the terminal from the start.
// In a pipeline it gets it when it asks for it: another process of the pipeline,
// a pager, may want it.
func (t *terminal) interactive() bool {
	return t.ours() && isTerminal(0) && isTerminal(1)
}

// give hands the terminal to a group.
func (t *terminal) give(group int) {
	t.given = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group) == nil
	t.wanted = true
}

// takeBack takes the terminal back and reports whether it was given away.
func (t *terminal) takeBack() (had bool) {
	if t == nil || !t.given {
		return false
	}
	t.regain()
	t.given = false
	return true
}

// regain makes our own group the foreground group. From the background that
// works only while SIGTTOU is ignored.
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

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, getTermios)
	return err == nil
}

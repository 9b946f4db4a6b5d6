//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
)

// dieWithParent: there is no such thing here.
func dieWithParent(*syscall.SysProcAttr) {}

// adoptOrphans: there is no such thing here.
func adoptOrphans() {}

// stopNow: the signal to the group, which we are part of, has to do.
func stopNow(syscall.Signal) {}

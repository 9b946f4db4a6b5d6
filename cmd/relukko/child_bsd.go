//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
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
func adoptOrphans() bool { return false }

// strays: so these are not known.
func strays(int) []int { return nil }

// stopSelf stops this process, by a signal that is never caught: what was once
// caught does not do any more what it does by default.
func stopSelf(syscall.Signal) { _ = syscall.Kill(os.Getpid(), syscall.SIGTTIN) }

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

// stopSelf sends this process a signal.
func stopSelf(sig syscall.Signal) { _ = syscall.Kill(os.Getpid(), sig) }

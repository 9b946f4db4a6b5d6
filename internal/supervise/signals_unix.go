//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package supervise

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// passedOn are the signals that are caught while the command runs, besides those
// of [Catch]. SIGWINCH and SIGTSTP come from a terminal that it does not have.
var passedOn = []os.Signal{
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGTSTP,
}

// Catch catches the signals that end a program, as [Notify] does.
func Catch() chan os.Signal {
	return Notify(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
}

// SignalNamed returns the signal of that name, with or without SIG before it; nil
// for "". To send it to the command alone, pass it to [Command.Run].
func SignalNamed(name string) (os.Signal, error) {
	switch strings.TrimPrefix(strings.ToUpper(name), "SIG") {
	case "":
		return nil, nil
	case "USR1":
		return syscall.SIGUSR1, nil
	case "USR2":
		return syscall.SIGUSR2, nil
	case "ALRM":
		return syscall.SIGALRM, nil
	}
	return nil, fmt.Errorf("%q is not USR1, USR2 or ALRM", name)
}

// EndBy ends this process by Ctrl-C, if that is what sig was, so that a script
// that called it ends too. Otherwise it returns the exit status for sig.
func EndBy(sig os.Signal) int {
	if sig == syscall.SIGINT && openTerminal().ours() {
		dieOf(os.Getpid(), syscall.SIGINT)
	}
	return StatusOf(sig)
}

// EndInterrupted ends this process after Ctrl-C has ended a command that had the
// terminal. Processes in our own group, a script that called us, would have
// got that signal too if the command had been in it. Where SIGINT is ignored it
// returns the exit status instead.
func EndInterrupted() int {
	if !signal.Ignored(syscall.SIGINT) {
		dieOf(0, syscall.SIGINT)
	}
	return StatusOf(syscall.SIGINT)
}

// dieOf sends a signal that we no longer catch to pid, which includes us.
func dieOf(pid int, sig syscall.Signal) {
	signal.Reset(sig)
	_ = syscall.Kill(pid, sig)
	time.Sleep(100 * time.Millisecond) // it may arrive on another thread
}

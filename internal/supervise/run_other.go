//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package supervise

import (
	"errors"
	"os"
	"os/exec"
	"time"
)

// On these systems a command is run and killed, and no more: there are no
// process groups, no signals but Ctrl-C, which the console sends to all, and no
// job control.

// Catch catches the signal that ends a program.
func Catch() chan os.Signal { return Notify(os.Interrupt) }

// Run runs the command and returns when it has ended. An error says that it
// could not be started.
func (c *Command) Run(signals chan os.Signal) (Result, error) {
	cmd := &exec.Cmd{
		Path: c.Path, Args: c.Args, Env: c.Env,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	var r Result
	revoked := c.Permit.Revoked()
	var giveUp <-chan time.Time
	for {
		select {
		case <-waited:
			r.Status, r.Remaining = cmd.ProcessState.ExitCode(), nil
			return r, nil
		case <-revoked:
			revoked, giveUp = nil, time.After(time.Second)
			r.Revoked, r.Remaining = true, errors.New("it could not be killed")
			_ = cmd.Process.Kill()
		case <-signals: // the command gets it too
		case <-giveUp:
			return r, nil
		}
	}
}

// SignalNamed returns an error: there is no signal that a command alone could get.
func SignalNamed(name string) (os.Signal, error) {
	if name == "" {
		return nil, nil
	}
	return nil, errors.New("there are no signals on this system")
}

// EndBy returns the exit status for a signal.
func EndBy(sig os.Signal) int { return StatusOf(sig) }

// EndInterrupted returns the exit status after Ctrl-C.
func EndInterrupted() int { return StatusOf(os.Interrupt) }

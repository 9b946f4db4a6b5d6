//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"errors"
	"os"
	"os/exec"
	"time"
)

// Here a command is run and killed, and no more: there are no process groups,
// no signals but Ctrl-C, which the console sends to all, and no job control.

var ending = []os.Signal{os.Interrupt}

// guard runs the command and returns when it has ended.
func (c *command) guard(l *locks, signals chan os.Signal) ended {
	cmd := &exec.Cmd{Path: c.path, Args: c.argv, Env: c.env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		return ended{failure: cannotRun(c.argv[0], err)}
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	var e ended
	lost := l.whenLost()
	var giveUp <-chan time.Time
	for {
		select {
		case <-waited:
			e.status, e.leftover = cmd.ProcessState.ExitCode(), nil
			return e
		case <-lost:
			lost, giveUp = nil, time.After(time.Second)
			e.lost, e.leftover = true, errors.New("it could not be killed")
			_ = cmd.Process.Kill()
		case <-signals: // it has it too
		case <-giveUp:
			return e
		}
	}
}

func endedBy(os.Signal) error { return &failure{status: statusFailed} }

func interrupted() error { return &failure{status: statusFailed} }

func width(int) int { return 0 }

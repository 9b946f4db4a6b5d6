//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package supervise

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// beforeEnd is the time between SIGKILL and the end of the permit, or half of
// what is left of it when it is revoked, where that is less.
const beforeEnd = time.Second

// supervisor runs one command.
type supervisor struct {
	*Command
	child   *child
	end     *ending
	tty     *terminal
	stopper stopper
	signals chan os.Signal
	result  Result

	exited bool      // the command itself has ended
	empty  bool      // its group must have ended, too
	asked  time.Time // when it was last asked to end, by SIGTERM or SIGHUP
}

// Run runs the command and returns when it has ended. Signals that arrive on
// signals, which [Catch] returned, are passed on. An error says that the command
// could not be started.
func (c *Command) Run(signals chan os.Signal) (Result, error) {
	for _, sig := range passedOn {
		if !ignored(sig.(syscall.Signal)) {
			signal.Notify(signals, sig)
		}
	}
	s := &supervisor{Command: c, tty: openTerminal(), signals: signals}
	s.stopper = newStopper(signals)
	child, err := start(c, s.tty)
	if err != nil {
		return Result{}, err
	}
	s.child, s.end = child, newEnding(child)
	s.supervise()
	s.result.Remaining = s.end.remaining
	return s.result, nil
}

func (s *supervisor) supervise() {
	revoked := s.Permit.Revoked()
	for {
		select {
		case status := <-s.child.changes:
			if status.Stopped() {
				s.stopped(status.StopSignal())
			} else {
				s.ended(status)
			}
		case sig := <-s.signals:
			s.pass(sig.(syscall.Signal))
		case sig := <-s.Extra:
			s.pass(sig.(syscall.Signal))
		case <-s.stopper.continued:
			s.goOn()
		case <-revoked:
			revoked = nil
			s.revoke()
		case <-s.end.kill.C:
			s.end.killNow()
		case <-s.end.look:
		case <-s.end.giveUp:
			return
		}
		if s.exited && (!s.empty || s.end.complete()) {
			return
		}
	}
}

// ended records how the command itself ended. Where a signal ended it, or it
// ended because it was asked to, the rest of its group must end as well.
func (s *supervisor) ended(status syscall.WaitStatus) {
	s.exited = true
	s.result.Status = status.ExitStatus()
	had := s.tty.takeBack()
	if status.Signaled() {
		s.tty.restore()
		s.result.Status = StatusOf(status.Signal())
		s.result.Interrupted = had && status.Signal() == syscall.SIGINT
	}
	asked := !s.asked.IsZero() && time.Since(s.asked) < s.KillAfter
	s.empty = s.result.Revoked || status.Signaled() || asked
	if !s.empty || s.end.complete() {
		return
	}
	if !s.result.Revoked && !asked {
		s.end.terminate()
	}
	s.end.killIn(s.KillAfter)
	s.end.look = time.Tick(lookEvery)
}

// revoke ends the group while the permit still tolerates it.
func (s *supervisor) revoke() {
	s.result.Revoked, s.empty = true, true
	left := s.Permit.Left()
	left = min(s.KillAfter, left-min(beforeEnd, left/2))
	if left <= 0 {
		s.end.killNow()
		return
	}
	s.end.killIn(left)
	s.end.terminate()
}

// pass passes a signal on.
func (s *supervisor) pass(sig syscall.Signal) {
	switch sig {
	case syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM:
		if !s.exited { // its children may have no handler and would die of it
			_ = s.child.signalAlone(sig)
		}
		return
	case syscall.SIGTERM, syscall.SIGHUP:
		s.asked = time.Now()
	}
	_ = s.child.signal(sig)
}

// stopped handles a command that was stopped: by Ctrl-Z, or because it wants the
// terminal and does not have it.
func (s *supervisor) stopped(sig syscall.Signal) {
	wantsTerminal := sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
	switch {
	case wantsTerminal && s.tty.ours():
		s.tty.give(s.child.pid)
		_ = s.child.signal(syscall.SIGCONT)
		return
	case wantsTerminal && s.tty.foreground() == s.child.pid: // it has it by now
		_ = s.child.signal(syscall.SIGCONT)
		return
	case sig == syscall.SIGSTOP && s.tty.foreground() != s.child.pid:
		return // meant for the command alone
	}
	s.tty.takeBack()
	if s.OnStop != nil && s.tty.ours() {
		s.OnStop()
	}
	if !wantsTerminal {
		sig = syscall.SIGTSTP
	}
	if !s.stopper.stop(sig) && wantsTerminal {
		// No process is left that could give us the terminal. The system sends
		// the same to processes that have lost their shell.
		_ = s.child.signal(syscall.SIGHUP)
	}
	s.goOn()
}

// goOn continues the command, with the terminal if it had it and we have it now;
// but not when its permit was revoked meanwhile.
func (s *supervisor) goOn() {
	if !s.Permit.Valid() {
		s.revoke()
		return
	}
	if s.tty.ours() && s.tty.wanted {
		s.tty.give(s.child.pid)
	}
	_ = s.child.signal(syscall.SIGCONT)
}

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

var (
	// ending signals are caught from the beginning. They end the wait for a
	// lock, and are passed on to the group.
	ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}
	// passedOn signals are caught while the child runs, and passed on to it
	// alone: who has no handler for them would die of them. The last two are for
	// the group, from a terminal that we have not given away.
	passedOn = []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGTSTP}
)

const (
	// beforeEnd is the time between SIGKILL and the end of the lease, or half of
	// what is left of the lease when the loss is known, where that is less.
	beforeEnd = time.Second
	killTime  = time.Second            // that SIGKILL may take
	lookEvery = 10 * time.Millisecond  // whether anything of a group is left
	stopTime  = 100 * time.Millisecond // after which we have not been stopped
)

// supervisor sees a command through.
type supervisor struct {
	*command
	*child
	locks   *locks
	tty     *terminal
	signals chan os.Signal
	conts   chan os.Signal // SIGCONT
	ended   ended

	exited     bool      // the command itself
	empty      bool      // its group must be empty, too, before this ends
	asked      time.Time // when it was last asked to end, by SIGTERM or SIGHUP
	kill       *time.Timer
	killAt     time.Time // when kill fires; zero: never
	look       <-chan time.Time
	giveUp     <-chan time.Time // set by SIGKILL
	toldStrays bool             // those who have left the group were told to end
}

// guard runs the command and returns when it has ended.
func (c *command) guard(l *locks, signals chan os.Signal) ended {
	s := &supervisor{command: c, locks: l, tty: openTerminal(), signals: signals, conts: make(chan os.Signal, 1)}
	for _, sig := range passedOn {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	signal.Notify(s.conts, syscall.SIGCONT)
	child, err := start(c, s.tty)
	if err != nil {
		return ended{failure: cannotRun(c.argv[0], err)}
	}
	s.child = child
	s.supervise()
	return s.ended
}

func (s *supervisor) supervise() {
	lost := s.locks.whenLost()
	s.kill = time.NewTimer(time.Hour)
	s.kill.Stop()
	for {
		select {
		case ws := <-s.changes:
			if ws.Stopped() {
				s.stopped(ws.StopSignal())
			} else {
				s.hasEnded(ws)
			}
		case sig := <-s.signals:
			s.pass(sig.(syscall.Signal))
		case <-s.conts:
			s.goOn()
		case <-lost:
			lost = nil
			s.end()
		case <-s.kill.C:
			s.killNow()
		case <-s.look:
		case <-s.giveUp:
			return
		}
		if s.exited && (!s.empty || s.allGone()) {
			s.ended.leftover = nil
			return
		}
	}
}

// hasEnded takes in how the command itself ended. Where a signal has ended it, or
// it ended because it was asked to, the rest of its group is to end as well.
func (s *supervisor) hasEnded(ws syscall.WaitStatus) {
	s.exited = true
	s.ended.status = ws.ExitStatus()
	had := s.tty.takeBack()
	if ws.Signaled() {
		s.tty.restore()
		s.ended.status = statusOf(ws.Signal())
		s.ended.interrupt = had && ws.Signal() == syscall.SIGINT
	}
	asked := !s.asked.IsZero() && time.Since(s.asked) < s.killAfter
	s.empty = s.ended.lost || ws.Signaled() || asked
	if !s.empty || s.allGone() {
		return
	}
	s.look = time.Tick(lookEvery)
	if !s.ended.lost && !asked {
		s.tellToEnd()
	}
	s.killIn(s.killAfter)
}

// end has the group end because the lock was lost: by SIGTERM, and by SIGKILL
// while the lease still runs.
func (s *supervisor) end() {
	s.ended.lost, s.empty = true, true
	left := s.locks.left()
	left -= min(beforeEnd, left/2)
	s.killIn(min(s.killAfter, left))
	if time.Until(s.killAt) <= 0 {
		s.killNow()
		return
	}
	s.tellToEnd()
}

func (s *supervisor) tellToEnd() {
	_ = s.signal(syscall.SIGTERM)
	_ = s.signal(syscall.SIGCONT) // who is stopped could not take it
}

// allGone reports whether nothing is left of the group, nor of those who have
// left it: these are told to end only when it is gone, since a shell or a relukko
// run in it sees to its own, and nobody is to be told twice. SIGKILL is for all.
func (s *supervisor) allGone() bool {
	if !s.gone() {
		return false
	}
	left := s.strays()
	switch {
	case len(left) == 0:
		return true
	case s.giveUp != nil:
		signalAll(left, syscall.SIGKILL) // some may be new
	case !s.toldStrays:
		s.toldStrays = true
		signalAll(left, syscall.SIGTERM)
		signalAll(left, syscall.SIGCONT)
	}
	return false
}

// killIn sets the time of the SIGKILL, which can only come nearer.
func (s *supervisor) killIn(d time.Duration) {
	at := time.Now().Add(d)
	if s.killAt.IsZero() || at.Before(s.killAt) {
		s.killAt = at
		s.kill.Reset(d)
	}
}

func (s *supervisor) killNow() {
	s.kill.Stop()
	if s.giveUp != nil {
		return
	}
	s.giveUp = time.After(killTime)
	s.ended.leftover = s.signal(syscall.SIGKILL)
	signalAll(s.strays(), syscall.SIGKILL)
	if s.ended.leftover == nil {
		s.ended.leftover = fmt.Errorf("process group %d has not ended within %s of SIGKILL", s.pid, short(killTime))
	}
}

// pass passes a signal on.
func (s *supervisor) pass(sig syscall.Signal) {
	switch sig {
	case syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM:
		if !s.exited {
			_ = syscall.Kill(s.pid, sig)
		}
		return
	case syscall.SIGTERM, syscall.SIGHUP:
		s.asked = time.Now()
	}
	_ = s.signal(sig)
}

// stopped follows a child that was stopped: by Ctrl-Z, or because it wants the
// terminal and does not have it.
func (s *supervisor) stopped(sig syscall.Signal) {
	wantsTerminal := sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
	switch {
	case wantsTerminal && s.tty.ours():
		s.tty.give(s.pid)
		_ = s.signal(syscall.SIGCONT)
		return
	case wantsTerminal && s.tty.foreground() == s.pid: // it has it by now
		_ = s.signal(syscall.SIGCONT)
		return
	case sig == syscall.SIGSTOP && s.tty.foreground() != s.pid:
		return // somebody wants this one to stand still, not us
	}
	s.tty.takeBack()
	s.warnOfStop()
	if !wantsTerminal {
		sig = syscall.SIGTSTP
	}
	if !s.stop(sig) && wantsTerminal {
		// Nobody is there any more who could give us the terminal. The system
		// does the same to those who have lost their shell.
		_ = s.signal(syscall.SIGHUP)
	}
	s.goOn()
}

func (s *supervisor) warnOfStop() {
	left := s.locks.left()
	if s.tty.ours() && width(2) > 0 && left < 365*24*time.Hour {
		fmt.Fprintf(os.Stderr, "\r\nrelukko: stopped, so nobody renews the lock. If this does not go on within %s, it is lost, and the command is killed\r\n", short(left))
	}
}

// stop stops our own group, as the terminal would have, and returns when it goes
// on. By sig our parent, which may be another relukko run, learns whether it is
// for the terminal, and would go on with it, or was asked to stop. It returns
// false where nobody is there who could have it go on: then the system does not
// let it be stopped either.
func (s *supervisor) stop(sig syscall.Signal) bool {
	select {
	case <-s.conts:
	default:
	}
	// We come after the others of the group: what is caught does not stop anybody.
	caught := !signal.Ignored(syscall.SIGTSTP)
	signal.Ignore(syscall.SIGTSTP)
	_ = syscall.Kill(0, syscall.SIGTSTP)
	if caught {
		signal.Notify(s.signals, syscall.SIGTSTP)
	}
	stopSelf(sig)
	select {
	case <-s.conts:
		return true
	case <-time.After(stopTime):
		return false
	}
}

// goOn continues the child, with the terminal if it had it and it is ours to
// give; but not when the lock was lost meanwhile.
func (s *supervisor) goOn() {
	if s.locks.lost() != nil {
		s.end()
		return
	}
	if s.tty.ours() && s.tty.wanted {
		s.tty.give(s.pid)
	}
	_ = s.signal(syscall.SIGCONT)
}

// endedBy ends the program because of a signal that came while it waited. On a
// terminal it ends by Ctrl-C itself, so that a script that called it ends too.
func endedBy(sig os.Signal) error {
	if sig == syscall.SIGINT && openTerminal().ours() {
		dieOf(os.Getpid(), syscall.SIGINT)
	}
	return &failure{status: statusOf(sig)}
}

// interrupted ends the program after Ctrl-C has ended the command that had the
// terminal: whoever shares our process group, a script that called us, would
// have got that too if the command had been in it.
func interrupted() error {
	if !signal.Ignored(syscall.SIGINT) {
		dieOf(0, syscall.SIGINT)
	}
	return &failure{status: statusOf(syscall.SIGINT)}
}

// dieOf sends a signal to ourselves, who no longer catch it.
func dieOf(pid int, sig syscall.Signal) {
	signal.Reset(sig)
	_ = syscall.Kill(pid, sig)
	time.Sleep(stopTime)
}

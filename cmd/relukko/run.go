package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

const (
	// noWaitPatience is how long --no-wait stands a backend that does not answer.
	noWaitPatience = 5 * time.Second
	// cleanUpTimeout is how long what is left to be done behind may delay the end.
	cleanUpTimeout = 10 * time.Second
	// hurry is how long it may once somebody has sent a signal.
	hurry = time.Second
	// lostCleanUpTimeout is that after a loss, which is to be known soon.
	lostCleanUpTimeout = 500 * time.Millisecond
)

// lockFlags say how a lock is to be had.
type lockFlags struct {
	wait    time.Duration
	noWait  bool
	creator string
}

func (f *lockFlags) add(cmd *cobra.Command) {
	durationVar(cmd, &f.wait, "wait", "how long to wait for the lock, 0 for not at all (default: as long as it takes)")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait for a lock that somebody holds")
	cmd.Flags().StringVar(&f.creator, "creator", "", "`who` others see as the holder (default user@host/pid)")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
}

// read takes the flags in as they were given.
func (f *lockFlags) read(cmd *cobra.Command) {
	f.noWait = f.noWait || cmd.Flags().Changed("wait") && f.wait == 0
}

// options are those of the mutex for a name.
func (f *lockFlags) options(w *waiting, ttl time.Duration) func(name string) []relukko.Option {
	return func(name string) []relukko.Option {
		options := []relukko.Option{
			relukko.WithTTL(ttl), relukko.WithCreator(f.creator),
			relukko.WithOnWait(w.onWait(name)), relukko.WithLogger(slog.New(w)),
		}
		if f.noWait {
			options = append(options, relukko.WithBackOff(func() backoff.BackOff {
				return backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxElapsedTime(noWaitPatience))
			}))
		}
		return options
	}
}

type runFlags struct {
	lockFlags
	more      []string // names besides the argument's
	ttl       time.Duration
	killAfter time.Duration
}

func newRun(t *target) *cobra.Command {
	f := runFlags{ttl: time.Minute, killAfter: 5 * time.Second}
	cmd := &cobra.Command{
		Use:   "run [flags] NAME -- COMMAND [ARG…]",
		Short: "Run a command while holding a lock",
		Long: `Take a lock, run a command, release the lock.

The command gets stdin, stdout, stderr and the terminal as if it were run
without relukko, and runs in a process group of its own. In its environment it
finds RELUKKO_LOCK_ID, RELUKKO_LOCK_NAME and RELUKKO_FENCING_TOKEN (which is
empty where the backend has none). Signals are passed on: SIGINT, SIGTERM,
SIGHUP and SIGQUIT to the group, SIGUSR1, SIGUSR2 and SIGALRM to the command
alone. Ctrl-C and Ctrl-Z do what they always do.

When the lock is lost (somebody deleted it, or it could not be renewed in time)
the whole group gets SIGTERM, and SIGKILL --kill-after later, but in any case
before the lease has ended. So nothing of it is left when somebody else gets the
lock, unless it was deleted: then somebody else may have it at once. On Linux
this goes for all of its descendants that are in the same session, for example
the jobs of an interactive shell.

With --lock, which can be repeated, several locks are taken, all or none, in the
order of their names. Two commands that want the same ones never wait for each
other. The three variables then have one line for each.

The lock is released when the command ends. What it leaves running behind then
runs without the lock; but where a signal has ended it, the rest of its group is
ended first (by SIGTERM, and SIGKILL --kill-after later).

What cannot be had:
  - When relukko run itself is killed by SIGKILL, the command is killed too (on
    Linux, unless it has changed its user id, as sudo does), but not what the
    command has started. The lock is free when its lease (--ttl) and then
    the backend's grace, about 3 min, are over.
  - What calls setsid, or elsewhere than on Linux leaves the process group in
    another way, outlives a loss.
  - On Windows there are no process groups and no signals: a loss ends the
    command itself, at once, and what it has started goes on.
  - While relukko run is stopped nobody renews the lock. Ctrl-Z stops the
    command too; when it goes on too late, it is killed before it can do
    anything. But after SIGSTOP to relukko run alone, the command goes on, and
    without the lock once the lease has ended.
  - Of the signals that whoever starts relukko run ignores, the command ignores
    SIGINT and SIGHUP only.

Exit status: the command's own, 128+n where signal n ended it; 75 when the lock
was not acquired in time, 76 when it was lost, 69 when the backend refuses or
cannot be reached, 64 for a wrong command line, 126 when the command cannot be
run, 127 when there is none of that name. All of these can also be the command's
own.`,
		Example: examples(
			"relukko run robot-arm-1 -- ./calibrate.sh --slow",
			"relukko run --wait 10m staging -- make deploy        # 75 when it is not free by then",
			"relukko run --no-wait nightly -- ./backup            # only one of many hosts does it",
			"relukko run --lock arm --lock camera -- ./inspect    # both or none",
			"relukko run dongle -- sh -c 'licensed-tool --token \"$RELUKKO_FENCING_TOKEN\"'",
		),
		Args: cobra.ArbitraryArgs, // looked at below
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 { // the command, and files
			return nil, cobra.ShellCompDirectiveDefault
		}
		return completeNames(t, 1)(cmd, args, toComplete)
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&f.more, "lock", nil, "`name` of a lock, may be repeated; NAME can then be left out")
	durationVar(cmd, &f.ttl, "ttl", "the lease, in whole seconds: bounds outages that do no harm (to half of it), and what a crash costs")
	durationVar(cmd, &f.killAfter, "kill-after", "how long the command has to end after SIGTERM")
	_ = cmd.RegisterFlagCompletionFunc("lock", completeNames(t, 0))
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if _, unknown := errors.AsType[*pflag.NotExistError](err); unknown {
			return usage("%v. Those of the command come after --: relukko run NAME -- COMMAND", err)
		}
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dash := cmd.ArgsLenAtDash()
		switch {
		case dash < 0:
			return usage("there is no command: relukko run NAME -- COMMAND")
		case dash == len(args):
			return usage("there is no command after --")
		case dash > 1:
			return usage("there is more than one name before --. For several locks, repeat --lock")
		case dash == 0 && len(f.more) == 0:
			return usage("there is no name of a lock: relukko run NAME -- COMMAND")
		case f.ttl < time.Second || f.ttl%time.Second != 0:
			return usage("--ttl: the lease has whole seconds, at least one")
		}
		f.read(cmd)
		return f.run(t, append(f.more, args[:dash]...), args[dash:])
	}
	return cmd
}

// run is the whole life of a guarded command. It returns nil when that went
// well and the command's exit status was 0.
func (f *runFlags) run(t *target, names, argv []string) error {
	path, err := lookUp(argv[0])
	if err != nil {
		return err
	}
	command := &command{path: path, argv: argv, env: os.Environ(), killAfter: f.killAfter}
	c, err := t.client()
	if err != nil {
		return err
	}
	w := newWaiting(c.BaseURL())
	l := newLocks(c, names, f.options(w, f.ttl))
	brokenPipes()
	signals := notify(ending...)
	if err := f.take(l, w, signals); err != nil {
		return err
	}
	command.env = overridden(command.env, l.environment())
	ended := command.guard(l, signals)
	return conclude(l, ended, signals)
}

// take takes the locks, or ends the client.
func (f *lockFlags) take(l *locks, w *waiting, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if f.wait > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.wait)
		defer cancel()
	}
	taken := make(chan error, 1)
	go func() { taken <- l.take(ctx, f.noWait) }()
	var interrupt os.Signal
	var err error
	select {
	case err = <-taken:
	case interrupt = <-signals:
		cancel()
		err = nil
	}
	if err == nil && interrupt == nil {
		w.end(true)
		return nil
	}
	// Whatever is left of it on the backend is cleaned up before the end; who
	// does not want to wait for that sends another signal.
	done := make(chan struct{})
	go func() {
		defer close(done)
		if interrupt != nil {
			if <-taken == nil {
				l.release()
			}
		}
		end(l.client, cleanUpTimeout)
	}()
	w.end(false)
	hurried(done, signals)
	if interrupt != nil {
		return endedBy(interrupt)
	}
	return f.notAcquired(err, l.client.BaseURL())
}

// hurried returns when done is closed, or a while after a signal: who sends one
// when only cleaning up is left does not want to wait for that.
func hurried(done <-chan struct{}, signals <-chan os.Signal) {
	select {
	case <-done:
		return
	case <-signals:
	}
	select {
	case <-done:
	case <-time.After(hurry):
	}
}

// end closes the client, within some time. What it then has not done is left to
// the lock's expiry.
func end(c *api.Client, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_ = c.Shutdown(ctx)
}

// notAcquired words why a lock was not had.
func (f *lockFlags) notAcquired(err error, base string) error {
	held, ok := errors.AsType[*relukko.LockedError](err)
	if !ok {
		_, answered := errors.AsType[*api.Error](err)
		if answered || api.Transient(err) || api.NoEffect(err) || errors.Is(err, context.DeadlineExceeded) {
			return explain(err, base)
		}
		return usage("%s", plain(err)) // the name or the creator is none
	}
	who := heldBy(held.Holder, time.Now())
	if f.noWait {
		return &failure{statusNotAcquired, fmt.Sprintf("lock %q is %s. To wait for it, leave --no-wait out", held.Name, who)}
	}
	return &failure{statusNotAcquired, fmt.Sprintf("lock %q was not free within %s: %s. Wait longer with --wait; `relukko get` tells more about the holder",
		held.Name, short(f.wait), who)}
}

// lookUp finds the command as a shell does, before anybody waits for a lock.
func lookUp(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", &failure{statusNotFound, fmt.Sprintf("%s: command not found", name)}
	}
	return "", cannotRun(name, err)
}

func cannotRun(name string, err error) *failure {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		err = e
	}
	status := statusCannotRun
	if errors.Is(err, fs.ErrNotExist) { // its interpreter, or it went away meanwhile
		status = statusNotFound
	}
	return &failure{status, fmt.Sprintf("%s: %v", name, err)}
}

// command is what is to be run.
type command struct {
	path      string
	argv, env []string
	killAfter time.Duration
}

// ended is how a command ended.
type ended struct {
	status  int
	failure *failure // it was not even started
	// interrupt: Ctrl-C ended it, which whoever started relukko should know of.
	interrupt bool
	// leftover: it could not be killed.
	leftover error
	lost     bool // the lock was, while it ran
}

// conclude releases the locks and makes the exit status.
func conclude(l *locks, e ended, signals <-chan os.Signal) error {
	answer, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		err := l.release()
		answer <- err
		within := cleanUpTimeout
		if err != nil {
			within = lostCleanUpTimeout
		}
		end(l.client, within)
	}()
	hurried(done, signals)
	err := relukko.ErrNotReleased
	select {
	case err = <-answer:
	default:
	}
	if e.leftover != nil {
		fmt.Fprintf(os.Stderr, "relukko: some of the command still runs, without the lock: %v\n", e.leftover)
	}
	switch loss, lost := errors.AsType[*relukko.LostError](err); {
	case lost && e.lost:
		return &failure{statusLost, lossText(loss, l.client.BaseURL()) + ". The command was stopped"}
	case lost && e.failure == nil:
		return &failure{statusLost, lossText(loss, l.client.BaseURL()) + ". The command had ended by itself, but others may have been at it too"}
	case err != nil && !lost:
		if e, ok := errors.AsType[*relukko.NotReleasedError](err); ok { // this process is about to end
			err = &relukko.NotReleasedError{Name: e.Name, ID: e.ID, Err: e.Err}
		}
		fmt.Fprintf(os.Stderr, "relukko: %s; `relukko rm` frees it sooner\n", plain(err))
	}
	switch {
	case e.failure != nil:
		return e.failure
	case e.interrupt:
		return interrupted()
	case e.status != 0:
		return &failure{status: e.status}
	}
	return nil
}

// lossText says how a lock was lost.
func lossText(loss *relukko.LostError, base string) string {
	switch loss.Reason {
	case relukko.LossDeleted:
		return fmt.Sprintf("lock %q was lost: somebody deleted it, or it expired", loss.Name)
	case relukko.LossRefused:
		return fmt.Sprintf("lock %q was lost: it was not renewed, because %s", loss.Name, explain(loss.Err, base).text)
	}
	if loss.Err == nil {
		return fmt.Sprintf("lock %q was lost: it was not renewed in time", loss.Name)
	}
	return fmt.Sprintf("lock %q was lost: it was not renewed in time, because of %s", loss.Name, explain(loss.Err, base).text)
}

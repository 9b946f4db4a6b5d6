package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/supervise"
)

type runFlags struct {
	lockFlags
	more      []string // names besides the argument
	any       []string // the names of --any, as they were given
	ttl       time.Duration
	maxHold   time.Duration
	onWanted  string
	killAfter time.Duration
}

func newRun(p *program) *cobra.Command {
	f := runFlags{ttl: time.Minute, killAfter: 5 * time.Second}
	cmd := &cobra.Command{
		Use:   "run [flags] NAME -- COMMAND [ARG…]",
		Short: "Run a command while holding a lock",
		Long:  runLong,
		Example: examples(
			"relukko run robot-arm-1 -- sleep 5",
			"relukko run --wait 10m staging -- date        # 75 if it is not free by then",
			"relukko run --no-wait --quiet --conflict-exit-code 0 nightly -- date    # cron",
			"relukko run --lock arm --lock camera -- date    # several locks",
			"relukko run --any bench-1,bench-2 -- sh -c 'echo \"on $RELUKKO_LOCK_NAME\"'",
			"relukko run --any 'licence/1..5' --max-hold 2h -- sleep 5",
			"relukko run --priority -5 --on-wanted USR1 soak-bench -- sleep 60    # gives way",
			"relukko run dongle -- sh -c 'licensed-tool --token \"$RELUKKO_FENCING_TOKEN\"'",
		),
		Args: cobra.ArbitraryArgs, // names checks them
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) (
		[]cobra.Completion, cobra.ShellCompDirective,
	) {
		if len(args) > 0 { // the command, and files
			return nil, cobra.ShellCompDirectiveDefault
		}
		return completeNames(p, 1)(cmd, args, toComplete)
	}
	f.add(cmd, "user@host/pid")
	cmd.Flags().StringArrayVar(&f.more, "lock", nil,
		"`name` of a lock, may be repeated; NAME can then be omitted")
	cmd.Flags().StringArrayVar(&f.any, "any", nil,
		"`names` of locks of which any one will do: a,b or 'a/1..5'; instead of NAME")
	durationVar(cmd, &f.maxHold, "max-hold",
		"how long the command may run under the lock (default: without limit)")
	cmd.Flags().StringVar(&f.onWanted, "on-wanted", "",
		"`signal` that the command gets once somebody waits for the lock, for example USR1")
	durationVar(cmd, &f.ttl, "ttl", "the lease, in whole seconds: "+
		"an outage of half of it does no harm, a crash costs all of it")
	durationVar(cmd, &f.killAfter, "kill-after", "how long the command has to end after SIGTERM")
	_ = cmd.RegisterFlagCompletionFunc("lock", completeNames(p, 0))
	_ = cmd.RegisterFlagCompletionFunc("any", completeNames(p, 0))
	cmd.MarkFlagsMutuallyExclusive("any", "lock")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if _, unknown := errors.AsType[*pflag.NotExistError](err); unknown {
			return usage("%v. Flags of the command come after --: relukko run NAME -- COMMAND", err)
		}
		return err
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		names, argv, err := f.names(args, cmd.ArgsLenAtDash())
		if err != nil {
			return err
		}
		if err := f.parsed(cmd, p.getenv); err != nil {
			return err
		}
		return p.run(&f, names, argv)
	}
	return cmd
}

const runLong = `Acquire a lock, run a command, release the lock.

The command gets stdin, stdout, stderr and the terminal as if it were run
without relukko, and runs in its own process group. Its environment has
RELUKKO_LOCK_ID, RELUKKO_LOCK_NAME and RELUKKO_FENCING_TOKEN (empty where the
backend has none). Signals are passed on: SIGINT, SIGTERM, SIGHUP and SIGQUIT to
the group, SIGUSR1, SIGUSR2 and SIGALRM to the command alone. Ctrl-C and Ctrl-Z
work as usual.

When the lock is lost (somebody deleted it, or it could not be renewed in time)
the whole group gets SIGTERM, and SIGKILL --kill-after later, but always before
the lease has ended. So nothing of it is left when the next holder gets the
lock, unless it was deleted: then the next holder may get it immediately. On
Linux this includes all descendants in the same session, for example the jobs of
an interactive shell.

With --lock, which can be repeated, the command runs when all of the locks are
held. Two commands that want some of the same ones never deadlock. Our own
backend grants all at one instant, so that none is held while it waits. On other
backends, and where WebSockets do not pass, they are acquired one after the
other, in the order of their names; those that are acquired are held while it
waits for the next. The three variables have one line for each lock, in the
order of the names.

With --any, which can be repeated, it is any one of several locks: benches that
are alike, or licences. It takes 'a,b' and, for numbers, 'licence/1..5'. On our
own backend it waits in the queues of all of them, and gets the first that comes
free. RELUKKO_LOCK_NAME says which it is.

With --max-hold the whole group is ended, as after a loss, when the command has
run for that long. The lock is held until it has ended. With --on-wanted the
command itself gets a signal, once, when somebody waits for its lock, so that it
may end early; a command that does not handle the signal dies of it. It has a
second to prepare before that. Only our own backend says that somebody waits.

In a job of GitLab, GitHub or Jenkins others see its URL beside the holder,
unless --reason or --creator says something else.

The lock is released when the command ends. Processes that it leaves running
then run without the lock; but where a signal ended the command, the rest of its
group is ended first (by SIGTERM, and SIGKILL --kill-after later).

Within relukko run, at any depth, another one for the same lock is refused: it
would wait for itself. --nested makes it wait. The names of the locks that are
held around the command are in RELUKKO_HELD_LOCKS.

Limits:
  - When relukko run itself is killed by SIGKILL, the command is killed too (on
    Linux, unless it has changed its user id, as sudo does), but not the
    processes that it has started. The lock is free when its lease (--ttl) and
    a tenth of it have passed (on the original backend, about 3 min more).
  - A process that calls setsid, or elsewhere than on Linux leaves the process
    group in another way, survives a loss and --max-hold.
  - A command that has become another user's, as with sudo, cannot be signalled.
    It survives a loss and --max-hold, without the lock. A message says so.
  - On Windows there are no process groups and no signals: a loss ends the
    command itself, immediately, and the processes that it has started go on.
  - While relukko run is stopped nothing renews the lock. Ctrl-Z stops the
    command too; if it is continued too late, it is killed before it can do
    anything. But after SIGSTOP to relukko run alone the command goes on,
    without the lock once the lease has ended.
  - Of the signals that are ignored when relukko run starts, the command ignores
    only SIGINT, SIGHUP and, on Linux, SIGTSTP; without a terminal, where they
    mean nothing, SIGTTIN and SIGTTOU too.
  - In $(…) of an interactive shell the command can read from the terminal on
    Linux only.

Exit status: that of the command, 128+n where signal n ended it; 75, or that of
--conflict-exit-code, when the lock was not acquired in time, 76 when it was
lost, 77 when it was held for longer than --max-hold, 69 when the backend
refuses or cannot be reached, 64 for a wrong command line, 126 when the command
cannot be run, 127 when it is not found. The command can also return any of
these.`

// names returns the names of the locks and the command, which begins at args[dash].
func (f *runFlags) names(args []string, dash int) (names, argv []string, err error) {
	switch {
	case dash < 0:
		return nil, nil, usage("there is no command: relukko run NAME -- COMMAND")
	case dash == len(args):
		return nil, nil, usage("there is no command after --")
	case dash > 1:
		return nil, nil, usage("there is more than one name before --. " +
			"For several locks, repeat --lock; for any one of them, use --any")
	case dash == 1 && len(f.any) > 0:
		return nil, nil, usage("--any is instead of a name before --")
	case dash == 0 && len(f.more) == 0 && len(f.any) == 0:
		return nil, nil, usage("there is no name of a lock: relukko run NAME -- COMMAND")
	}
	if len(f.any) > 0 {
		names, err = expand(f.any)
	} else {
		names = append(f.more, args[:dash]...)
	}
	return names, args[dash:], cmp.Or(err, wholeSeconds("--ttl", f.ttl))
}

// expand returns the names that --any was given: 'a,b' are two, 'a/1..5' is five.
func expand(given []string) (names []string, err error) {
	for name := range strings.SplitSeq(strings.Join(given, ","), ",") {
		before, last, isRange := strings.Cut(name, "..")
		prefix := strings.TrimRight(before, "0123456789")
		from, err1 := strconv.Atoi(before[len(prefix):])
		to, err2 := strconv.Atoi(last)
		switch {
		case !isRange || err1 != nil || err2 != nil: // a name, which may have dots in it
			names = append(names, name)
		case prefix+strconv.Itoa(from)+".."+strconv.Itoa(to) != name:
			return nil, usage("--any: write the numbers of %q without leading zeros or a sign, "+
				"or list the names one by one", name)
		case from > to || to-from >= maxAny:
			return nil, usage("--any: %q must rise, by less than %d", name, maxAny)
		default:
			for n := from; n <= to; n++ {
				names = append(names, prefix+strconv.Itoa(n))
			}
		}
	}
	return names, nil
}

const maxAny = 100 // names of a pool

// run runs a guarded command. It returns nil when its exit status was 0 and the
// lock was held throughout.
func (p *program) run(f *runFlags, names, argv []string) error {
	if err := p.notNested(&f.lockFlags, len(f.any) > 0, names...); err != nil {
		return err
	}
	wanted, err := supervise.SignalNamed(f.onWanted)
	if err != nil {
		return usage("--on-wanted: %v", err)
	}
	path, err := lookUp(argv[0])
	if err != nil {
		return err
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	w := newWaiting(p.Stderr, c.BaseURL(), f.quiet)
	l := f.locks(c, w, names)
	ignoreBrokenPipes()
	signals := supervise.Catch()
	if err := p.lock(&f.lockFlags, l, w, signals); err != nil {
		return err
	}
	command := &supervise.Command{
		Path: path, Args: argv, Env: overridden(p.Env, l.environment(p.heldAround())),
		Permit: l, KillAfter: f.killAfter,
		OnStop: func() { p.warnStopped(l.Left()) },
		OnUndelivered: func(sig os.Signal, err error) {
			p.warn("the command did not get a signal (%v): %v", sig, err)
		},
	}
	if wanted != nil {
		extra := make(chan os.Signal, 1)
		command.Extra = extra
		l.whenWanted(func() { extra <- wanted })
	}
	result, err := command.Run(signals)
	lost := p.finish(l, result, signals)
	switch {
	case err != nil:
		return cannotRun(argv[0], err)
	case lost != nil:
		return lost
	case result.Revoked:
		stopped := "was stopped"
		if result.Remaining != nil {
			stopped = "could not be stopped"
		}
		return &failure{status: statusHeldTooLong, text: fmt.Sprintf(
			"the command %s: it has run for longer than --max-hold (%s) allows",
			stopped, short(f.maxHold))}
	case result.Interrupted:
		return &failure{status: supervise.EndInterrupted()}
	case result.Status != 0:
		return &failure{status: result.Status}
	}
	return nil
}

// locks returns the locks to acquire.
func (f *runFlags) locks(c *api.Client, w *waiting, names []string) (l *locks) {
	if w.any = len(f.any) > 0; w.any {
		f.pool = len(names) > 1
		l = newPool(c, names, f.options(w, strings.Join(f.any, ","), f.ttl))
	} else {
		names = slices.Compact(slices.Sorted(slices.Values(names)))
		w.all = len(names) > 1
		l = newLocks(c, names, f.options(w, strings.Join(names, ", "), f.ttl))
	}
	l.maxHold = f.maxHold
	return l
}

// warnStopped says what happens when the command is not continued soon.
func (p *program) warnStopped(left time.Duration) {
	if terminalWidth(p.Stderr) > 0 && left < forever {
		fmt.Fprintf(p.Stderr, "\r\nrelukko: stopped, so nothing renews the lock. "+
			"Unless it is continued within %s, the lock is lost and the command is killed\r\n",
			short(left))
	}
}

// finish releases the locks after the command has ended, and returns a failure if
// one was lost.
func (p *program) finish(l *locks, result supervise.Result, signals <-chan os.Signal) error {
	type outcome struct {
		loss       *relukko.LostError
		unreleased []*relukko.NotReleasedError
	}
	var o outcome
	for _, lock := range l.session().Locks() { // what is true if a signal ends the release
		o.unreleased = append(o.unreleased,
			&relukko.NotReleasedError{Name: lock.Name, ID: lock.ID})
	}
	released, done := make(chan outcome, 1), make(chan struct{})
	go func() {
		defer close(done)
		var o outcome
		o.loss, o.unreleased = l.release()
		released <- o
		timeout := cleanUpTimeout
		if o.loss != nil || len(o.unreleased) > 0 {
			timeout = lostCleanUpTimeout
		}
		shutdown(l.client, timeout)
	}()
	awaitCleanUp(done, signals)
	select {
	case o = <-released:
	default:
	}
	p.warnUnreleased(l.client.BaseURL(), o.unreleased...)
	if result.Remaining != nil {
		p.warn("some of the command still runs, without the lock: %v", result.Remaining)
	}
	if o.loss == nil {
		return nil
	}
	f := explainLoss(o.loss, l.client.BaseURL())
	switch {
	case !result.Revoked:
		f.advice = "The command had ended by itself, but others may have used what the lock guards"
	case result.Remaining == nil:
		f.advice = "The command was stopped"
	default:
		f.advice = "The command could not be stopped"
	}
	return f
}

// lookUp finds the command as a shell does, before anything waits for a lock.
func lookUp(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot):
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", &failure{status: statusNotFound, text: name + ": command not found"}
	}
	return "", cannotRun(name, err)
}

func cannotRun(name string, err error) *failure {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		err = e
	}
	status := statusCannotRun
	if errors.Is(err, fs.ErrNotExist) { // its interpreter, or it has gone meanwhile
		status = statusNotFound
	}
	return &failure{status: status, text: fmt.Sprintf("%s: %v", name, err)}
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/supervise"
)

const (
	// noWaitPatience is how long --no-wait retries while the backend does not
	// answer.
	noWaitPatience = 5 * time.Second
	// cleanUpTimeout is how long cleanup may delay the end of the program.
	cleanUpTimeout = 10 * time.Second
	// lostCleanUpTimeout is the same after a loss, which is to be known soon.
	lostCleanUpTimeout = 500 * time.Millisecond
	// signalledTimeout is the same after a signal that came meanwhile.
	signalledTimeout = time.Second
)

// lockFlags say how to acquire a lock.
type lockFlags struct {
	wait   time.Duration
	noWait bool
	nested bool
	pool   bool // any one of several locks will do; more than one

	creator  string
	reason   string
	priority int

	conflictStatus int
	quiet          bool
}

// add adds the flags. creator says what the default of --creator is.
func (f *lockFlags) add(cmd *cobra.Command, creator string) {
	durationVar(cmd, &f.wait, "wait",
		"how long to wait for the lock, 0: not at all (default: without limit)")
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait for a lock that is held")
	cmd.Flags().BoolVar(&f.nested, "nested", false,
		"wait even for a lock that a surrounding relukko run holds")
	cmd.Flags().StringVar(&f.creator, "creator", "",
		"`who` others see as the holder (default "+creator+")")
	cmd.Flags().StringVar(&f.reason, "reason", "",
		"`why`, for others to read after the holder's name "+
			"(default, unless --creator is given: in CI the job's URL)")
	cmd.Flags().IntVar(&f.priority, "priority", 0,
		"from -10 to 10: each step is worth a head start of 10 min in the queue")
	cmd.Flags().IntVar(&f.conflictStatus, "conflict-exit-code", statusNotAcquired,
		"exit `status` when the lock is held and was not acquired in time")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false,
		"print nothing while the lock is held and when it was not acquired in time")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
}

// parsed checks and completes the flags after they were parsed.
func (f *lockFlags) parsed(cmd *cobra.Command, getenv func(string) string) error {
	if f.reason == "" && f.creator == "" {
		f.reason = jobURL(getenv)
	}
	f.noWait = f.noWait || cmd.Flags().Changed("wait") && f.wait == 0
	if f.conflictStatus < 0 || f.conflictStatus > 255 {
		return usage("--conflict-exit-code: give a number from 0 to 255")
	}
	return nil
}

// jobURL returns the URL of the CI job that this program runs in; "" where there is
// none that others could read.
func jobURL(getenv func(string) string) string {
	github := ""
	if run := getenv("GITHUB_RUN_ID"); run != "" {
		github = getenv("GITHUB_SERVER_URL") + "/" + getenv("GITHUB_REPOSITORY") +
			"/actions/runs/" + run
	}
	url := cmp.Or(getenv("CI_JOB_URL"), github, getenv("BUILD_URL"))
	if len(url) > maxReason || url != printable(url) {
		return ""
	}
	return url
}

const maxReason = 255 // bytes, as WithReason has it

// notNested returns a failure if a relukko run that this program runs in holds one
// of the locks: it waits for this program, so the wait would never end. Where any
// one of several will do, that is so only if none is free of such a run.
func (p *program) notNested(f *lockFlags, any bool, names ...string) error {
	if f.nested {
		return nil
	}
	around := p.heldAround()
	held := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return !slices.Contains(around, name)
	})
	if len(held) == 0 || any && len(held) < len(names) {
		return nil
	}
	return &failure{statusUsage, fmt.Sprintf(
		"lock %q is held by the relukko run that this command runs in (%s), "+
			"so it would wait for itself", held[0], envHeldLocks),
		"To wait nevertheless, use --nested"}
}

// heldAround returns the names of the locks of all the relukko runs that this program
// runs in. [envLockName] has those of the innermost.
func (p *program) heldAround() []string {
	names := strings.Split(p.getenv(envHeldLocks)+"\n"+p.getenv(envLockName), "\n")
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// options returns those of the mutex; name is what w shows.
func (f *lockFlags) options(w *waiting, name string, ttl time.Duration) []relukko.Option {
	options := []relukko.Option{
		relukko.WithTTL(ttl), relukko.WithCreator(f.creator),
		relukko.WithReason(f.reason), relukko.WithPriority(f.priority),
		relukko.WithOnWait(w.onWait(name)), relukko.WithLogger(slog.New(w)),
	}
	if f.noWait {
		options = append(options, relukko.WithBackOff(func() backoff.BackOff {
			return backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(50*time.Millisecond),
				backoff.WithMaxElapsedTime(noWaitPatience))
		}))
	}
	return options
}

// lock acquires the locks. After an error, or a signal, none is held and the client
// is closed.
func (p *program) lock(f *lockFlags, l *locks, w *waiting, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if f.wait > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.wait)
		defer cancel()
	}
	acquired := make(chan error, 1)
	go func() { acquired <- l.acquire(ctx, f.noWait) }()
	var interrupt os.Signal
	var err error
	select {
	case err = <-acquired:
		if err == nil {
			w.end(l.session())
			return nil
		}
	case interrupt = <-signals:
		cancel()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if interrupt != nil && <-acquired == nil {
			_, unreleased := l.release()
			p.warnUnreleased(l.client.BaseURL(), unreleased...)
		}
		shutdown(l.client, cleanUpTimeout)
	}()
	w.end(nil)
	awaitCleanUp(done, signals)
	if interrupt != nil {
		return &failure{status: supervise.EndBy(interrupt)}
	}
	return f.notAcquired(err, l.client.BaseURL())
}

// awaitCleanUp returns when done is closed, or soon after a signal.
func awaitCleanUp(done <-chan struct{}, signals <-chan os.Signal) {
	select {
	case <-done:
		return
	case <-signals:
	}
	select {
	case <-done:
	case <-time.After(signalledTimeout):
	}
}

// shutdown closes the client. What it cannot clean up in time expires.
func shutdown(c *api.Client, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_ = c.Shutdown(ctx)
}

// notAcquired explains why a lock was not acquired.
func (f *lockFlags) notAcquired(err error, base string) error {
	held, ok := errors.AsType[*relukko.LockedError](err)
	if !ok {
		_, answered := errors.AsType[*api.Error](err)
		if answered || api.Transient(err) || api.NoEffect(err) ||
			errors.Is(err, context.DeadlineExceeded) {
			return explain(err, base)
		}
		return usage("%s", plain(err)) // the name or the creator cannot be used
	}
	if f.quiet {
		return &failure{status: f.conflictStatus}
	}
	who := heldBy(held.Holder, time.Now())
	text, advice := "is "+who, "To wait for it, omit --no-wait"
	if !f.noWait {
		text = fmt.Sprintf("was not free within %s: %s", short(f.wait), who)
		advice = "Wait longer with --wait; `relukko get` shows more about the holder"
	}
	if text = fmt.Sprintf("lock %q %s", held.Name, text); f.pool {
		text += ", and the others are held too"
	}
	return &failure{f.conflictStatus, text, advice}
}

// warnUnreleased says that locks were not released. This program is about to end,
// so nothing retries that.
func (p *program) warnUnreleased(base string, unreleased ...*relukko.NotReleasedError) {
	for _, e := range unreleased {
		why := "the backend did not confirm it"
		if e.Err != nil {
			why = explain(e.Err, base).text
		}
		remove := e.Name
		if !harmless(remove) || strings.Contains(remove, " ") {
			remove = e.ID
		}
		p.warn("lock %q was not released: %s. "+
			"It expires by itself; `relukko rm %s` frees it sooner", e.Name, why, remove)
	}
}

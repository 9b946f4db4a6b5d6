package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/supervise"
)

func newAcquire(p *program) *cobra.Command {
	var (
		f      lockFlags
		lease  = time.Hour
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "acquire NAME",
		Short: "Acquire a lock and leave it held",
		Long: `Acquire a lock, print its id, and leave it held until --for has passed or it is
released (relukko release): for CI systems whose steps are separate processes.

Nothing renews the lock or watches it meanwhile: when the job takes longer than
planned, use relukko extend before --for has passed. Where one process can do
the whole job, relukko run is better. In a job of GitLab, GitHub or Jenkins
others see its URL beside the holder.

The exit status is 75, or that of --conflict-exit-code, when the lock was not
acquired in time.`,
		Example: examples(
			"id=$(relukko acquire staging --wait 10m --for 2h)",
			"# … other steps …",
			"relukko release \"$id\"",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(p, 1),
	}
	f.add(cmd, "user@host")
	durationVar(cmd, &lease, "for", "how long to hold it, in whole seconds")
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := wholeSeconds("--for", lease); err != nil {
			return err
		}
		if err := f.parsed(cmd, p.getenv); err != nil {
			return err
		}
		return p.leave(&f, args[0], lease, func(c *api.Client, id string) (api.Lock, error) {
			lock, err := hold(c, id, lease)
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(p.Stdout, lock)
			default:
				err = printed(fmt.Fprintln(p.Stdout, lock.ID))
			}
			return lock, err
		})
	}
	return cmd
}

// leave acquires a lock and leaves it on the backend, unless then returns an error. Then sets its
// expiry and prints it. The process must end after it: until then the lock is renewed.
func (p *program) leave(
	f *lockFlags, name string, lease time.Duration,
	then func(c *api.Client, id string) (api.Lock, error),
) error {
	if err := p.notNested(f, false, name); err != nil {
		return err
	}
	c, err := p.client()
	if err != nil {
		return err
	}
	if f.creator == "" {
		f.creator = userAtHost()
	}
	ignoreBrokenPipes()
	signals := supervise.Catch()
	w := newWaiting(p.Stderr, c.BaseURL(), f.quiet)
	l := newLocks(c, []string{name}, f.options(w, name, lease))
	if err := p.lock(f, l, w, signals); err != nil {
		return err
	}
	lock, err := then(c, l.session().Info().ID)
	if err == nil {
		granted := lock.ExpiresAt.Sub(lock.UpdatedAt)
		if !c.Trusted() && granted < lease-time.Second {
			p.warn("lock %q is held for %s only: the backend bounds how long (serve --max-hold)",
				name, short(granted))
		}
		return nil
	}
	_, unreleased := l.release()
	p.warnUnreleased(c.BaseURL(), unreleased...)
	shutdown(c, lostCleanUpTimeout)
	return explain(err, c.BaseURL())
}

// userAtHost returns the creator of a lock that outlives this process: there is no
// process to look for.
func userAtHost() string {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return name + "@" + host
}

// hold makes a lock that was just acquired expire after its lease.
func hold(c *api.Client, id string, lease time.Duration) (api.Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	lock, err := c.KeepAlive(ctx, id, lease)
	return lock, lostImmediately(id, err)
}

// lostImmediately returns err, or the failure for it if the lock is gone.
func lostImmediately(id string, err error) error {
	if errors.Is(err, api.ErrGone) {
		text := fmt.Sprintf("lock %s was lost: somebody deleted it immediately", id)
		return &failure{status: statusLost, text: text}
	}
	return err
}

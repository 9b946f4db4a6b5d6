package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

func newHold(p *program) *cobra.Command {
	var (
		f      lockFlags
		lease  time.Duration
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "hold NAME --for DURATION --reason TEXT",
		Short: "Take what a lock guards out of service",
		Long: `Acquire a lock and leave it held, so that nobody uses what it guards: a bench
that is repaired, a server that is moved. Those who wait for the lock see the
reason, as relukko ls and get do.

With --for 0 it is held until somebody releases it. No process renews it. It
ends with relukko rm NAME, or relukko release ID. To extend it use relukko
extend; to change the reason, relukko set NAME --creator 'Ada (new reason)'.

Like relukko acquire it waits until the holder has released the lock, in the
queue. relukko rm NAME first, if that cannot wait. The exit status is 75, or
that of --conflict-exit-code, when the lock was not acquired in time.`,
		Example: examples(
			"relukko hold bench-3 --for 2d --reason 'the arm is calibrated'",
			"relukko hold bench-3 --for 0 --reason 'broken, ask Ada' --priority 10",
			"relukko rm bench-3    # in service again",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(p, 1),
	}
	f.add(cmd, "user@host")
	durationVar(cmd, &lease, "for", "how long, in whole seconds; 0: until somebody releases it")
	jsonFlag(cmd, &asJSON)
	for _, flag := range []string{"for", "reason"} {
		_ = cmd.MarkFlagRequired(flag)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set := hold
		if lease == 0 {
			lease, set = longestLease, p.holdUntilReleased
		} else if err := wholeSeconds("--for", lease); err != nil {
			return err
		}
		if err := f.parsed(cmd, p.getenv); err != nil {
			return err
		}
		return p.leave(&f, args[0], lease, set, func(lock api.Lock) error {
			if asJSON {
				return printJSON(p.Stdout, lock)
			}
			until := untilReleased
			if !isUntilReleased(lock) {
				until = "until " + stamp(lock.ExpiresAt)
			}
			return printed(fmt.Fprintf(p.Stdout, "%s is held %s (%s)\n",
				printable(lock.Name), until, lock.ID))
		})
	}
	return cmd
}

// longestLease is the longest that a mutex can ask for.
const longestLease = 365 * day

// holdUntilReleased makes a lock that was just acquired expire as late as the API can say. It ends
// the client first, which would renew the lock for less. After an error the lock is not held, as
// far as possible.
func (p *program) holdUntilReleased(c *api.Client, id string, _ time.Duration) (api.Lock, error) {
	shutdown(c, 0)
	c, err := p.client()
	if err != nil {
		return api.Lock{}, err
	}
	defer shutdown(c, 0)
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	at := lastTime
	lock, err := c.Update(ctx, id, api.Update{ExpiresAt: &at})
	if err = lostImmediately(id, err); err == nil {
		return lock, nil
	}
	ctx, cancel = context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	if _, failed := c.Delete(ctx, id); failed != nil && !errors.Is(failed, api.ErrGone) {
		p.warnUnreleased(c.BaseURL(), &relukko.NotReleasedError{Name: id, ID: id, Err: failed})
	}
	return lock, err
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
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

Like relukko acquire it waits in the queue until the lock is released. If that
takes too long, relukko rm NAME, meanwhile, takes the lock from its holder. The
exit status is 75, or that of --conflict-exit-code, when the lock was not
acquired in time.`,
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
		forever := lease == 0
		if forever {
			lease = longestLease
		}
		if err := cmp.Or(wholeSeconds("--for", lease), f.parsed(cmd, p.getenv)); err != nil {
			return err
		}
		return p.leave(&f, args[0], lease, func(c *api.Client, id string) (api.Lock, error) {
			if forever {
				return p.holdUntilReleased(c, id, asJSON)
			}
			lock, err := hold(c, id, lease)
			if err == nil {
				err = p.printHeld(lock, asJSON)
			}
			return lock, err
		})
	}
	return cmd
}

// longestLease is the longest that a mutex can ask for.
const longestLease = 365 * day

// holdUntilReleased makes a lock that was just acquired expire as late as the API can say, and
// prints it. It closes the client of the mutex first, which would renew the lock for less. So
// after an error it deletes the lock itself.
func (p *program) holdUntilReleased(c *api.Client, id string, asJSON bool) (api.Lock, error) {
	shutdown(c, 0)
	c, err := p.client()
	if err != nil {
		return api.Lock{}, err
	}
	defer shutdown(c, 0)
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	lock, err := c.Update(ctx, id, api.Update{ExpiresAt: &wire.UntilReleased})
	if err == nil {
		err = p.printHeld(lock, asJSON)
	}
	if err == nil || errors.Is(err, api.ErrGone) {
		return lock, lostImmediately(id, err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	if _, failed := c.Delete(ctx, id); failed != nil && !errors.Is(failed, api.ErrGone) {
		p.warn("lock %s was not released: %s. `relukko rm %s` frees it", id,
			explain(failed, c.BaseURL()).text, id)
	}
	return lock, err
}

// printHeld prints a lock that is left held.
func (p *program) printHeld(lock api.Lock, asJSON bool) error {
	if asJSON {
		return printJSON(p.Stdout, lock)
	}
	until := untilReleased
	if !isUntilReleased(lock) {
		until = "until " + stamp(lock.ExpiresAt)
	}
	return printed(fmt.Fprintf(p.Stdout, "%s is held %s (%s)\n",
		printable(lock.Name), until, lock.ID))
}

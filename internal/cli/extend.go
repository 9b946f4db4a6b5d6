package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newExtend(p *program) *cobra.Command {
	var (
		from, add time.Duration
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "extend NAME|ID (--for D | --add D)",
		Short: "Make a lock expire later",
		Long: `Make a lock expire a given time from now (--for), or later than it would by a
given time (--add). --for can also make it expire earlier.

A program that renews its lock, as relukko run does, sets the expiry back to its
own lease at the next renewal.

` + byNameOrID,
		Example: examples(
			"relukko extend robot-arm-1 --for 30m    # from now",
			"relukko extend robot-arm-1 --add 30m    # on top of what it has",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(p, 1),
	}
	durationVar(cmd, &from, "for", "expire this long from now")
	durationVar(cmd, &add, "add", "expire this much later")
	cmd.MarkFlagsOneRequired("for", "add")
	cmd.MarkFlagsMutuallyExclusive("for", "add")
	ask := newAsking(cmd, p)
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if from == 0 && add == 0 {
			return usage("a lock cannot be extended by 0. To delete it, use relukko rm")
		}
		return ask.do(func(ctx context.Context, c *api.Client) error {
			lock, err := find(ctx, c, args[0])
			if err != nil {
				return err
			}
			if from > 0 {
				lock, err = c.KeepAlive(ctx, lock.ID, from)
			} else {
				lock, err = addTo(ctx, c, lock, add)
			}
			if err != nil {
				return err
			}
			return printLock(p.Stdout, lock, asJSON, time.Now())
		})
	}
	return cmd
}

// addTo makes a lock expire later by d. It is not retried, so its outcome can be
// unknown.
func addTo(ctx context.Context, c *api.Client, lock api.Lock, d time.Duration) (api.Lock, error) {
	id := lock.ID
	lock, err := c.AddToExpiry(ctx, id, d)
	if err == nil || api.NoEffect(err) || errors.Is(err, api.ErrRefused) {
		return lock, err
	}
	f := explain(err, c.BaseURL())
	f.advice = "The lock may have been extended nevertheless: see relukko get " + id
	return lock, f
}

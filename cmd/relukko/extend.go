package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newExtend(t *target) *cobra.Command {
	var (
		from, add time.Duration
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "extend NAME|ID (--for D | --add D)",
		Short: "Have a lock expire later",
		Long: `Have a lock expire later: so long from now (--for), or so much later than it
would (--add). It is named by its name, by its id, or by the beginning of its id
(four characters at least).

A program that renews its lock, as relukko run does, sets the expiry back to its
own lease with the next renewal. --for can also make a lock expire earlier.`,
		Example: examples(
			"relukko extend robot-arm-1 --for 30m    # from now",
			"relukko extend robot-arm-1 --add 30m    # beyond what it has",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(t, 1),
	}
	durationVar(cmd, &from, "for", "expire so long from now")
	durationVar(cmd, &add, "add", "expire so much later")
	cmd.MarkFlagsOneRequired("for", "add")
	cmd.MarkFlagsMutuallyExclusive("for", "add")
	ask := newAsking(cmd, t)
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if from == 0 && add == 0 {
			return usage("a lock cannot be extended by nothing. To end it, use relukko rm")
		}
		return ask.do(cmd, func(ctx context.Context, c *api.Client) error {
			lock, err := find(ctx, c, args[0])
			if err != nil {
				return err
			}
			if from > 0 {
				lock, err = c.KeepAlive(ctx, lock.ID, from)
			} else if lock, err = c.AddToExpiry(ctx, lock.ID, add); err != nil && !api.NoEffect(err) && !errors.Is(err, api.ErrRefused) {
				f := explain(err, c.BaseURL())
				f.text += ". It may have been extended all the same: see relukko get " + args[0]
				return f
			}
			if err != nil {
				return err
			}
			return show(cmd, lock, asJSON)
		})
	}
	return cmd
}

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newGet(t *target) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "get NAME|ID",
		Short: "Show one lock",
		Long: `Show all that the backend knows of one lock. It is named by its name, by its id,
or by the beginning of its id (four characters at least). Exit status 1 when
there is no such lock.`,
		Example: examples(
			"relukko get robot-arm-1",
			"relukko get 950d --json",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(t, 1),
	}
	ask := newAsking(cmd, t)
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return ask.do(cmd, func(ctx context.Context, c *api.Client) error {
			lock, err := find(ctx, c, args[0])
			if err != nil {
				return err
			}
			return show(cmd, lock, asJSON)
		})
	}
	return cmd
}

func show(cmd *cobra.Command, lock api.Lock, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), lock)
	}
	return printLock(cmd.OutOrStdout(), lock, time.Now())
}

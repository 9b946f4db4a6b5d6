package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newGet(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "get NAME|ID",
		Short: "Show one lock",
		Long: `Show everything that the backend knows about one lock.

` + byNameOrID + ` The exit status is 1 when there is no such lock.`,
		Example: examples(
			"relukko get robot-arm-1",
			"relukko get 950d --json",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(p, 1),
	}
	ask := newAsking(cmd, p)
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return ask.do(func(ctx context.Context, c *api.Client) error {
			lock, err := find(ctx, c, args[0])
			if err != nil {
				return err
			}
			return printLock(p.Stdout, lock, asJSON, time.Now())
		})
	}
	return cmd
}

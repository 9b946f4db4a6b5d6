package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newLs(t *target) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List all locks",
		Long: `List all locks: the name, who holds it from where, since when, when it expires,
how many wait for it where the backend tells, and the id.

A lock that has expired keeps its name until the backend sweeps it, which can
take some minutes. Ages are reckoned by the clock of this machine.`,
		Example: examples(
			"relukko ls",
			"relukko ls --json | jq -r '.[].lock_name'",
		),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, t)
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask.do(cmd, func(ctx context.Context, c *api.Client) error {
			locks, err := c.List(ctx)
			if err != nil {
				return err
			}
			slices.SortFunc(locks, func(a, b api.Lock) int { return strings.Compare(a.Name, b.Name) })
			switch {
			case asJSON:
				return printJSON(cmd.OutOrStdout(), locks)
			case len(locks) == 0:
				fmt.Fprintf(cmd.ErrOrStderr(), "relukko: nobody holds a lock at %s\n", c.BaseURL())
			default:
				return printTable(cmd.OutOrStdout(), locks, time.Now())
			}
			return nil
		})
	}
	return cmd
}

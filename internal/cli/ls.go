package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newLs(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List all locks",
		Long: `List all locks: name, holder, address of the holder, age, expiry, the number of
waiters where the backend reports it, id, and the reason that --reason or a CI
job gave. Locks of relukko hold may be held until somebody releases them.

A lock that has expired keeps its name until the backend sweeps it, which can
take some minutes. Ages are computed with the clock of this machine.`,
		Example: examples(
			"relukko ls",
			"relukko ls --json | jq -r '.[].lock_name'",
		),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, p)
	jsonFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return ask.do(func(ctx context.Context, c *api.Client) error {
			locks, err := c.List(ctx)
			if err != nil {
				return err
			}
			slices.SortFunc(locks, func(a, b api.Lock) int {
				return strings.Compare(a.Name, b.Name)
			})
			switch {
			case asJSON:
				return printJSON(p.Stdout, locks)
			case len(locks) == 0:
				p.warn("nobody holds a lock at %s", c.BaseURL())
				return nil
			}
			return printTable(p.Stdout, locks, time.Now())
		})
	}
	return cmd
}

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newQueue(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue [NAME]",
		Short: "Show who waits for locks",
		Long: `Show who waits for locks, or for the one that is named, in the order in which
they will be served: the name of the lock, who waits, from which address, for
how long, and the priority. Of several names, any one or all are wanted.

Only a server of this project lists them. Plain clients, which try again and
again, are not among them.`,
		Example: examples(
			"relukko queue robot-arm-1",
		),
		Args:              arguments(0, 1),
		ValidArgsFunction: completeNames(p, 1),
	}
	asJSON := false
	jsonFlag(cmd, &asJSON)
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return ask.do(func(ctx context.Context, c *api.Client) error {
			waiters, err := c.Waiting(ctx)
			if err != nil {
				return err
			}
			waiters = slices.DeleteFunc(waiters, func(w api.Waiter) bool {
				return len(args) > 0 && !slices.Contains(w.Names, args[0])
			})
			switch {
			case asJSON:
				return printJSON(p.Stdout, waiters)
			case len(waiters) == 0:
				p.warn("nobody waits")
				return nil
			}
			return printQueue(p, waiters, time.Now())
		})
	}
	return cmd
}

func printQueue(p *program, waiters []api.Waiter, now time.Time) error {
	rows := [][]string{{"NAME", "WAITER", "IP", "WAITS", "PRIORITY"}}
	for _, w := range waiters {
		rows = append(rows, []string{
			printable(strings.Join(w.Names, ", ")), orDash(w.Creator), orDash(w.IP),
			age(w.Since, now), fmt.Sprint(w.Priority),
		})
	}
	return writeTable(p.Stdout, rows)
}

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newHealth(t *target) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "Ask a backend whether it is up",
		Long: `Ask a backend whether it is up and its store answers: for the health checks of
containers. It needs no API key. Exit status 0 when it is, 1 when it is not.`,
		Example: examples(
			"relukko health",
			"relukko health --timeout 2s https://relukko.example",
			"HEALTHCHECK CMD [\"relukko\", \"health\"]    # in a Dockerfile",
		),
		Args:              arguments(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, t)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			t.url = args[0]
		}
		c, err := t.keyless()
		if err != nil {
			return err
		}
		err = ask.with(c, func(ctx context.Context, c *api.Client) error { return c.Health(ctx) })
		if f, ok := err.(*failure); ok {
			f.status = statusFailed
			return f
		}
		return printed(fmt.Fprintf(cmd.OutOrStdout(), "%s is up\n", c.BaseURL()))
	}
	return cmd
}

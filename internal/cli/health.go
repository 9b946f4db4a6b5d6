package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newHealth(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health [URL]",
		Short: "Check that a backend is up",
		Long: `Check that a backend is up and that its store responds: for health checks of
containers. It needs no API key. The exit status is 0 when the backend is up and
1 when it is not.`,
		Example: examples(
			"relukko health",
			"relukko health --timeout 2s https://relukko.example",
			"relukko health unix:///run/relukko/relukko.sock",
			"HEALTHCHECK CMD [\"relukko\", \"health\"]    # in a Dockerfile",
		),
		Args:              arguments(0, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			p.url = args[0]
		}
		c, err := p.keylessClient()
		if err != nil {
			return err
		}
		err = ask.with(c, func(ctx context.Context, c *api.Client) error { return c.Health(ctx) })
		if f, ok := errors.AsType[*failure](err); ok {
			f.status = statusFailed
			return f
		}
		return printed(fmt.Fprintf(p.Stdout, "%s is up\n", c.BaseURL()))
	}
	return cmd
}

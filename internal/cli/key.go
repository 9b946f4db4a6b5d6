package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/settings"
)

func newKey(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "key new",
		Short: "Make an API key",
		Long: `Make an API key of 32 random bytes, and print it. It is stored nowhere: give it
to the server, and to those that may use its locks.`,
		Example: examples(
			"(umask 077 && relukko key new > relukko.key)",
			"relukko serve --addr 0.0.0.0 --api-key-file relukko.key",
			"relukko login http://that-machine:3000 < relukko.key",
		),
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []cobra.Completion{"new"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printed(fmt.Fprintln(p.Stdout, settings.NewKey()))
		},
	}
}

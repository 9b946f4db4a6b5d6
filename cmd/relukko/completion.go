package main

import (
	"github.com/spf13/cobra"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that has a shell complete what is typed",
		Long: `Print a script that has a shell complete commands, flags and names of locks. The
names come from the backend, so its address and key must be in the environment
of the shell.`,
		Example: examples(
			"source <(relukko completion bash)                                  # this shell only",
			"relukko completion bash > /etc/bash_completion.d/relukko           # all of them",
			"relukko completion zsh > \"${fpath[1]}/_relukko\"",
			"relukko completion fish > ~/.config/fish/completions/relukko.fish",
		),
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			switch out := cmd.OutOrStdout(); args[0] {
			case "bash":
				err = cmd.Root().GenBashCompletionV2(out, true)
			case "zsh":
				err = cmd.Root().GenZshCompletion(out)
			case "fish":
				err = cmd.Root().GenFishCompletion(out, true)
			}
			return printed(0, err)
		},
	}
}

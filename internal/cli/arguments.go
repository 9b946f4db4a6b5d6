package cli

import (
	"math"
	"strings"

	"github.com/spf13/cobra"
)

const many = math.MaxInt

// arguments refuses fewer than least and more than most arguments.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		line := cmd.Root().Name() + " " + cmd.Use
		switch {
		case len(args) < least:
			return usage("an argument is missing: %s", line)
		case len(args) > most:
			return usage("there is no argument %q: %s", args[most], line)
		}
		return nil
	}
}

// examples indents lines as cobra expects them.
func examples(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }

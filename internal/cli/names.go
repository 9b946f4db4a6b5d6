package cli

import (
	"context"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

// completeWithin is how long a shell waits for the names of locks.
const completeWithin = time.Second

// completeNames completes up to most arguments, any number where most is 0, with
// the names of the locks that exist.
func completeNames(p *program, most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, toComplete string) (
		names []cobra.Completion, directive cobra.ShellCompDirective,
	) {
		directive = cobra.ShellCompDirectiveNoFileComp
		if most > 0 && len(args) >= most {
			return nil, directive
		}
		a := asking{program: p, timeout: completeWithin}
		_ = a.do(func(ctx context.Context, c *api.Client) error {
			locks, err := c.List(ctx)
			for _, lock := range locks {
				if strings.HasPrefix(lock.Name, toComplete) && harmless(lock.Name) {
					who := "held by " + holderOf(lock)
					names = append(names, cobra.CompletionWithDesc(lock.Name, who))
				}
			}
			return err
		})
		return names, directive
	}
}

// harmless reports whether a shell takes a name literally. Names come from other
// people, and completion scripts have the shell evaluate what they put on the
// command line: other names are not offered.
func harmless(name string) bool {
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" -_.:/@+,%=", r) {
			return false
		}
	}
	return !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, activeHelp)
}

// activeHelp marks a completion that is a message instead.
const activeHelp = "_activeHelp_ "

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

// uuid is the form of an id.
var uuid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

func newRelease(t *target) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release ID",
		Short: "Release a lock that was acquired",
		Long: `Release the lock that relukko acquire has taken, by the id that it printed: so
it is never somebody else's that is released.

Exit status 76 when there is no such lock any more. It was lost then: --for had
run out, or somebody had deleted it, and others may have been at what it guards.`,
		Example:           examples("relukko release \"$id\""),
		Args:              arguments(1, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, t)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !uuid.MatchString(args[0]) {
			return usage("%q is not the id of a lock: it is what relukko acquire has printed. Did that fail?", args[0])
		}
		return ask.do(cmd, func(ctx context.Context, c *api.Client) error {
			_, err := c.Delete(ctx, args[0])
			if e, ok := errors.AsType[*api.Error](err); ok && errors.Is(err, api.ErrGone) && !e.MaybeDone {
				return &failure{statusLost, fmt.Sprintf("lock %s was lost: it had expired, or somebody had deleted it", args[0])}
			} else if ok && e.MaybeDone && errors.Is(err, api.ErrGone) {
				return nil
			}
			return err
		})
	}
	return cmd
}

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

func newRelease(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release ID",
		Short: "Release a lock that was acquired",
		Long: `Release the lock that relukko acquire has acquired, by the id that it printed.
Since it goes by the id, it never releases the lock of a later holder.

The exit status is 76 when the lock does not exist any more. It was lost then:
--for had passed, or somebody deleted it, and others may have used what it
guards.`,
		Example:           examples("relukko release \"$id\""),
		Args:              arguments(1, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, ok := wire.ParseID(args[0])
		if !ok {
			return usage("%q is not the id of a lock, which relukko acquire prints. "+
				"Did that fail?", args[0])
		}
		return ask.do(func(ctx context.Context, c *api.Client) error {
			lock, err := c.Get(ctx, id)
			if err == nil {
				_, mark, _ := wire.CutMark(lock.Creator)
				err = remove(ctx, c, id, api.ByMark(mark))
			}
			if errors.Is(err, api.ErrGone) {
				return &failure{status: statusLost, text: fmt.Sprintf(
					"lock %s was lost: it had expired, or somebody had deleted it", id)}
			}
			return err
		})
	}
	return cmd
}

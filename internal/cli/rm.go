package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

func newRm(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm NAME|ID…",
		Aliases: []string{"delete"},
		Short:   "Delete locks, even if they are held",
		Long: `Delete locks, even if they are held. Their names are free immediately: a holder
has lost its lock, and learns of that soon if it watches, as relukko run does.

` + byNameOrID + ` When some of several do not exist, the others are deleted
and the exit status is 1.

A server of this project logs who deleted which lock, from where, and the
reason. In its history the lock is broken.`,
		Example: examples(
			"relukko rm robot-arm-1",
			"relukko rm 950d 17ac --reason 'the bench is rebooted'",
		),
		Args:              arguments(1, many),
		ValidArgsFunction: completeNames(p, 0),
	}
	var reason string
	cmd.Flags().StringVar(&reason, "reason", "",
		"why, for the log and the history of the server: `text`")
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return ask.do(func(ctx context.Context, c *api.Client) error {
			return p.removeAll(ctx, c, args, api.Reason(wire.WithReason(userAtHost(), reason)))
		})
	}
	return cmd
}

// removeAll deletes the locks that args name. It stops at an error other than
// that one does not exist.
func (p *program) removeAll(
	ctx context.Context, c *api.Client, args []string, reason api.CallOption,
) error {
	locks, err := c.List(ctx)
	if err != nil {
		return err
	}
	var missing []string
	removed := make(map[string]bool) // a lock that is named twice is deleted once
	for _, arg := range args {
		lock, err := match(locks, arg)
		if err != nil {
			missing = append(missing, err.Error())
			continue
		}
		if removed[lock.ID] {
			continue
		}
		switch err := remove(ctx, c, lock.ID, reason); {
		case errors.Is(err, api.ErrGone):
			missing = append(missing, fmt.Sprintf(
				"lock %q (%s) was gone before it could be deleted", lock.Name, lock.ID))
			continue
		case err != nil:
			return err
		}
		removed[lock.ID] = true
		fmt.Fprintf(p.Stdout, "deleted %s (%s), held by %s\n",
			printable(lock.Name), lock.ID, holderOf(lock))
	}
	if len(missing) > 0 {
		return failed("%s", strings.Join(missing, "\n"))
	}
	return nil
}

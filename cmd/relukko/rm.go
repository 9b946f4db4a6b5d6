package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newRm(t *target) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm NAME|ID…",
		Aliases: []string{"delete"},
		Short:   "Delete locks, whoever holds them",
		Long: `Delete locks, whoever holds them. Their names are free at once: who held such a
lock has lost it, and hears of it soon where he watches, as relukko run does.

Each is named by its name, by its id, or by the beginning of its id (four
characters at least). Those that are there are deleted even if others are not;
the exit status is then 1.`,
		Example: examples(
			"relukko rm robot-arm-1",
			"relukko rm 950d 17ac",
		),
		Args:              arguments(1, many),
		ValidArgsFunction: completeNames(t, 0),
	}
	ask := newAsking(cmd, t)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return ask.do(cmd, func(ctx context.Context, c *api.Client) error {
			locks, err := c.List(ctx)
			if err != nil {
				return err
			}
			var missed error
			removed := make(map[string]bool) // one that is named twice is deleted once
			for _, arg := range args {
				lock, err := match(locks, arg)
				if removed[lock.ID] {
					continue
				}
				if err == nil {
					err = remove(ctx, c, lock.ID)
				}
				if f, ok := errors.AsType[*failure](err); ok && f.status == statusFailed {
					missed = failed("%s", joinLines(missed, f.text))
					continue
				}
				if err != nil {
					return err
				}
				removed[lock.ID] = true
				fmt.Fprintf(cmd.OutOrStdout(), "deleted %s (%s), held by %s\n", printable(lock.Name), lock.ID, holderOf(lock))
			}
			return missed
		})
	}
	return cmd
}

func joinLines(before error, text string) string {
	if before == nil {
		return text
	}
	return before.Error() + "\n" + text
}

// remove deletes a lock. That it is gone after an attempt without an answer
// means that this attempt deleted it.
func remove(ctx context.Context, c *api.Client, id string) error {
	_, err := c.Delete(ctx, id)
	answer, answered := errors.AsType[*api.Error](err)
	switch {
	case !errors.Is(err, api.ErrGone):
		return err
	case answered && answer.MaybeDone:
		return nil
	}
	return failed("lock %s was gone before it could be deleted", id)
}

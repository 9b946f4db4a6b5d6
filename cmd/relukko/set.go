package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newSet(t *target) *cobra.Command {
	var (
		creator, expiresAt string
		asJSON             bool
	)
	cmd := &cobra.Command{
		Use:   "set NAME|ID [--creator TEXT] [--expires-at TIME]",
		Short: "Change who a lock says it is from, and when it expires",
		Long: `Change who a lock says it is from, and when it expires. It is named by its name,
by its id, or by the beginning of its id (four characters at least).

The time is one of RFC 3339, by the clock of the backend; without Z or an offset
from UTC it is local time. It may lie in the past: the lock is then swept soon.`,
		Example: examples(
			"relukko set robot-arm-1 --creator 'Ada, until the bench is repaired'",
			"relukko set robot-arm-1 --expires-at 2031-05-01T18:00:00+02:00",
			"relukko set robot-arm-1 --expires-at '2031-05-01 18:00'    # local time",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(t, 1),
	}
	cmd.Flags().StringVar(&creator, "creator", "", "who it is from")
	cmd.Flags().StringVar(&expiresAt, "expires-at", "", "when it expires: a `time` like 2031-05-01T18:00:00Z")
	cmd.MarkFlagsOneRequired("creator", "expires-at")
	ask := newAsking(cmd, t)
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var update api.Update
		if cmd.Flags().Changed("creator") {
			update.Creator = &creator
		}
		if cmd.Flags().Changed("expires-at") {
			at, err := parseTime(expiresAt)
			if err != nil {
				return err
			}
			update.ExpiresAt = &at
		}
		return ask.do(cmd, func(ctx context.Context, c *api.Client) error {
			lock, err := find(ctx, c, args[0])
			if err != nil {
				return err
			}
			if lock, err = c.Update(ctx, lock.ID, update); err != nil {
				return err
			}
			return show(cmd, lock, asJSON)
		})
	}
	return cmd
}

// parseTime reads a time as RFC 3339 has it, with a blank for the T where one
// likes, or a local one.
func parseTime(s string) (time.Time, error) {
	text := strings.Replace(s, " ", "T", 1)
	at, err := time.Parse(time.RFC3339, text)
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if err != nil {
			at, err = time.ParseInLocation(layout, text, time.Local)
		}
	}
	if err != nil {
		return at, usage("--expires-at: %q is not a time like 2031-05-01T18:00:00Z, 2031-05-01T18:00:00+02:00 or, locally, 2031-05-01 18:00", s)
	}
	return at, nil
}

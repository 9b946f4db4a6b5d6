package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newSet(p *program) *cobra.Command {
	var (
		creator, expiresAt string
		asJSON             bool
	)
	cmd := &cobra.Command{
		Use:   "set NAME|ID [--creator TEXT] [--expires-at TIME]",
		Short: "Change the creator and the expiry of a lock",
		Long: `Change the creator and the expiry of a lock.

` + byNameOrID + `

TIME is a time of RFC 3339, by the clock of the backend; without Z or an offset
from UTC it is local time. It may lie in the past: the lock is then swept soon.`,
		Example: examples(
			"relukko set robot-arm-1 --creator 'Ada, until the bench is repaired'",
			"relukko set robot-arm-1 --expires-at 2031-05-01T18:00:00+02:00",
			"relukko set robot-arm-1 --expires-at '2031-05-01 18:00'    # local time",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(p, 1),
	}
	cmd.Flags().StringVar(&creator, "creator", "", "`who` others see as the holder")
	cmd.Flags().StringVar(&expiresAt, "expires-at", "",
		"when it expires: a `time` like 2031-05-01T18:00:00Z")
	cmd.MarkFlagsOneRequired("creator", "expires-at")
	ask := newAsking(cmd, p)
	jsonFlag(cmd, &asJSON)
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
		return ask.do(func(ctx context.Context, c *api.Client) error {
			lock, err := find(ctx, c, args[0])
			if err != nil {
				return err
			}
			if lock, err = c.Update(ctx, lock.ID, update); err != nil {
				return err
			}
			return printLock(p.Stdout, lock, asJSON, time.Now())
		})
	}
	return cmd
}

// parseTime parses a time of RFC 3339, with a blank or a T, or a local one.
func parseTime(s string) (time.Time, error) {
	text := strings.Replace(s, " ", "T", 1)
	at, err := time.Parse(time.RFC3339, text)
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if err != nil {
			at, err = time.ParseInLocation(layout, text, time.Local)
		}
	}
	if err != nil {
		return at, usage("--expires-at: %q is not a time like 2031-05-01T18:00:00Z, "+
			"2031-05-01T18:00:00+02:00 or, local, 2031-05-01 18:00", s)
	}
	return at, nil
}

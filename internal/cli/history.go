package cli

import (
	"context"
	"math"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newHistory(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history [NAME]",
		Short: "Show who had locks, and how that ended",
		Long: `Show the locks that have ended, the newest first: name, holder, when it got the
lock and when that ended, how long it held the lock, how long it had waited
before, how it ended, the name of the key that ended it, and the reason.

A lock is released with a key of its owner; broken with a key of another name,
or with relukko rm; expired when nobody renewed it; and cancelled when its
client did not come to use it.

A server of this project keeps the history for 90 days, and about 1,000,000
locks, unless relukko serve --history and --history-max say otherwise. Other
backends have none.`,
		Example: examples(
			"relukko history robot-arm-1 --since 30d",
			"relukko history --json | jq '.[] | select(.ended == \"broken\")'",
		),
		Args:              arguments(0, 1),
		ValidArgsFunction: completeNames(p, 1),
	}
	since, limit, asJSON := week, 1000, false
	durationVar(cmd, &since, "since", "how far to go back")
	cmd.Flags().IntVar(&limit, "limit", limit, "show at most so many: `n`")
	jsonFlag(cmd, &asJSON)
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := api.HistoryQuery{Since: time.Now().Add(-since)}
		if len(args) > 0 {
			q.Name = args[0]
		}
		if limit < 1 {
			return usage("--limit: give a number of at least 1")
		}
		return ask.do(func(_ context.Context, c *api.Client) error {
			all, err := historyOf(ask.history(c), q, max(limit, limit+1))
			if err != nil {
				return err
			}
			if len(all) > limit {
				all = all[:limit]
				p.warn("only the newest %d are shown: see --limit", limit)
			}
			switch {
			case asJSON:
				return printJSON(p.Stdout, endedJSON(all))
			case len(all) == 0:
				p.warn("no lock has ended in the last %s", short(since))
				return nil
			}
			return printHistory(p, all)
		})
	}
	return cmd
}

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// historyOf returns the newest entries that q selects, at most so many, page by page.
func historyOf(
	ask func(api.HistoryQuery) ([]api.Ended, error), q api.HistoryQuery, most int,
) (all []api.Ended, _ error) {
	most = min(most, math.MaxInt-api.MaxHistory) // no sum overflows
	last := make(map[string]bool)                // ids of those that ended at q.Until
	for len(all) < most {
		q.Limit = min(most-len(all)+len(last), api.MaxHistory)
		page, err := ask(q)
		if err != nil {
			return nil, err
		}
		fresh := 0
		for _, e := range page {
			if last[e.ID] {
				continue
			}
			if !e.EndedAt.Equal(q.Until) {
				clear(last)
				q.Until = e.EndedAt
			}
			last[e.ID] = true
			all = append(all, e)
			fresh++
		}
		if len(page) < q.Limit || fresh == 0 {
			break
		}
	}
	return all[:min(len(all), most)], nil
}

func printHistory(p *program, all []api.Ended) error {
	rows := [][]string{
		{"NAME", "HOLDER", "IP", "FROM", "TO", "HELD", "WAITED", "ENDED", "BY", "REASON"},
	}
	for _, e := range all {
		rows = append(rows, []string{
			printable(e.Name), orDash(creatorOf(e.Lock)), orDash(e.IP), stamp(e.CreatedAt),
			stamp(e.EndedAt), short(heldFor(e)), short(e.Waited), printable(e.How), orDash(e.By),
			orDash(e.Reason),
		})
	}
	return writeTable(p.Stdout, rows)
}

// heldFor returns how long a lock was held.
func heldFor(e api.Ended) time.Duration { return max(e.EndedAt.Sub(e.CreatedAt), 0) }

// endedJSON returns the entries as the API has them.
func endedJSON(all []api.Ended) any {
	type entry struct {
		api.Ended
		Waited float64 `json:"waited"`
	}
	out := make([]entry, len(all))
	for i, e := range all {
		out[i] = entry{e, e.Waited.Seconds()}
	}
	return out
}

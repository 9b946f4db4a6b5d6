package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newUsage(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usage [NAME…]",
		Short: "Show how busy locks were",
		Long: `Show for each lock that was held lately, or for those that are named: the share
of the time for which it was held, how often, the median and the 95th percentile
of how long it was held and of how long its holders had waited for it, and how
often it was broken, or expired because nobody renewed it.

Those that hold a lock now count up to now. Of a time that began before --since,
only what came after that counts for the share.

It needs the history that a server of this project keeps; see relukko history.
What the server does not remember of that time counts as free.
Current holders are measured with the clock of this machine.`,
		Example: examples(
			"relukko usage",
			"relukko usage robot-arm-1 robot-arm-2 --since 7d",
		),
		Args:              arguments(0, many),
		ValidArgsFunction: completeNames(p, 0),
	}
	since, asJSON := 30*day, false
	durationVar(cmd, &since, "since", "how far to go back")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with times in seconds")
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if since <= 0 {
			return usage("--since: give a duration of more than 0")
		}
		return ask.do(func(ctx context.Context, c *api.Client) error {
			now := time.Now()
			of := newTally(now.Add(-since), now)
			if err := of.collect(ctx, c, ask.history(c), args); err != nil {
				return err
			}
			all := of.all()
			switch {
			case asJSON:
				return printJSON(p.Stdout, all)
			case len(all) == 0:
				p.warn("nobody held a lock in the last %s", short(since))
				return nil
			}
			return printUsage(p, all)
		})
	}
	return cmd
}

// lockUsage is how busy one lock was. Times are in seconds.
type lockUsage struct {
	Name       string  `json:"lock_name"`
	Share      float64 `json:"share"` // of the time for which it was held, 0 to 1
	Stays      int     `json:"stays"` // how often it was held
	HeldMedian float64 `json:"held_median"`
	Held95     float64 `json:"held_p95"`
	WaitMedian float64 `json:"waited_median"`
	Wait95     float64 `json:"waited_p95"`
	Broken     int     `json:"broken"`
	Expired    int     `json:"expired"`
}

// tally collects what the usage of locks from since to now is made of.
type tally struct {
	since, now time.Time
	byName     map[string]*tenures
}

// tenures are those of one lock.
type tenures struct {
	held            []time.Duration
	waited          []time.Duration // unknown of those that still hold it
	within          time.Duration   // held, from since on
	broken, expired int
}

func newTally(since, now time.Time) *tally {
	return &tally{since, now, make(map[string]*tenures)}
}

// collect counts what the backend has of the names; of all locks if there are none. Locks are
// listed first, so that one that ends meanwhile is counted once, by its id.
func (t *tally) collect(
	ctx context.Context, c *api.Client, ask func(api.HistoryQuery) ([]api.Ended, error),
	names []string,
) error {
	locks, err := c.List(ctx)
	if err != nil {
		return err
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	queries := names
	if len(names) == 0 {
		queries = []string{""}
	}
	ended := make(map[string]bool)
	for _, name := range queries {
		q := api.HistoryQuery{Name: name, Since: t.since}
		all, err := historyOf(ask, q, math.MaxInt)
		if err != nil {
			return err
		}
		for _, e := range all {
			ended[e.ID] = true
			t.ended(e)
		}
	}
	for _, lock := range locks {
		if !ended[lock.ID] && (len(names) == 0 || slices.Contains(names, lock.Name)) {
			t.add(lock, t.now)
		}
	}
	return nil
}

// add counts a lock that was held until end.
func (t *tally) add(lock api.Lock, end time.Time) *tenures {
	s := t.byName[lock.Name]
	if s == nil {
		s = new(tenures)
		t.byName[lock.Name] = s
	}
	s.held = append(s.held, max(end.Sub(lock.CreatedAt), 0))
	from := lock.CreatedAt
	if from.Before(t.since) {
		from = t.since
	}
	if end.After(t.now) {
		end = t.now
	}
	s.within += max(end.Sub(from), 0)
	return s
}

func (t *tally) ended(e api.Ended) {
	if e.How == "cancelled" {
		return // nobody came to hold it
	}
	s := t.add(e.Lock, e.EndedAt)
	s.waited = append(s.waited, e.Waited)
	switch e.How {
	case "broken":
		s.broken++
	case "expired":
		s.expired++
	}
}

// all returns the usage of each lock, the busiest first.
func (t *tally) all() []lockUsage {
	all := []lockUsage{}
	for name, s := range t.byName {
		all = append(all, lockUsage{
			Name: name, Stays: len(s.held), Broken: s.broken, Expired: s.expired,
			Share:      min(float64(s.within)/float64(t.now.Sub(t.since)), 1),
			HeldMedian: percentile(s.held, 50).Seconds(), Held95: percentile(s.held, 95).Seconds(),
			WaitMedian: percentile(s.waited, 50).Seconds(),
			Wait95:     percentile(s.waited, 95).Seconds(),
		})
	}
	slices.SortFunc(all, func(a, b lockUsage) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// percentile returns the least of the durations that at least p percent do not exceed; 0 if there
// are none. It sorts them.
func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[(len(d)*p+99)/100-1]
}

func printUsage(p *program, all []lockUsage) error {
	rows := [][]string{{
		"NAME", "BUSY", "STAYS", "HELD", "95%", "WAITED", "95%", "BROKEN", "EXPIRED",
	}}
	seconds := func(s float64) string { return short(time.Duration(s * float64(time.Second))) }
	for _, u := range all {
		rows = append(rows, []string{
			printable(u.Name), fmt.Sprintf("%.1f%%", 100*u.Share), fmt.Sprint(u.Stays),
			seconds(u.HeldMedian), seconds(u.Held95), seconds(u.WaitMedian), seconds(u.Wait95),
			fmt.Sprint(u.Broken), fmt.Sprint(u.Expired),
		})
	}
	return writeTable(p.Stdout, rows)
}

package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	shownTenures = 50 // of a name, the newest
	shownDays    = 30
)

// details is what the page of one name shows.
type details struct {
	Now     time.Time `json:"now"`
	Lock    *ownRow   `json:"lock"`
	May     may       `json:"may"`
	Queue   []waiter  `json:"queue"`
	History []tenure  `json:"history"`
	Days    []day     `json:"days"`
	Wait    spread    `json:"wait"` // of the tenures within the days
	Hold    spread    `json:"hold"`
	Tenures int       `json:"tenures"`
}

// waiter is a request that waits. The first one is served next.
type waiter struct {
	Creator  string    `json:"creator"`
	Owner    string    `json:"owner"`
	Priority int       `json:"priority"`
	Since    time.Time `json:"since"`
	Names    []string  `json:"names"`
}

// tenure is a lock that has ended.
type tenure struct {
	Creator string    `json:"creator"`
	Owner   string    `json:"owner"`
	Created time.Time `json:"created_at"`
	EndedAt time.Time `json:"ended_at"`
	Ended   string    `json:"ended"`
	EndedBy string    `json:"ended_by"`
	Reason  string    `json:"reason"`
	Waited  float64   `json:"waited"` // seconds
}

// day is for how long a name was held on one day.
type day struct {
	Day  string  `json:"day"`
	Held float64 `json:"held"` // seconds
}

// spread has percentiles, in seconds.
type spread struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
}

// details responds with what is known of one name. The query has the offset of the browser's zone
// from UTC, in minutes to the east.
func (p *Page) details(w http.ResponseWriter, r *http.Request, v visitor) {
	name := r.URL.Query().Get("name")
	offset, err := strconv.Atoi(r.URL.Query().Get("offset"))
	if err != nil || offset < -24*60 || offset > 24*60 {
		offset = 0
	}
	d, err := p.detailsOf(r.Context(), v, name, time.FixedZone("", offset*60))
	if err != nil {
		p.fail(w, r, err, name)
		return
	}
	writeJSON(w, http.StatusOK, d)
}

func (p *Page) detailsOf(
	ctx context.Context, v visitor, name string, zone *time.Location,
) (*details, error) {
	now := time.Now()
	d := &details{Now: now.UTC(), Queue: []waiter{}, History: []tenure{}}
	waiters, err := p.Engine.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	for i := range waiters {
		if slices.Contains(waiters[i].Names, name) {
			d.Queue = append(d.Queue, newWaiter(&waiters[i]))
		}
	}
	var current *store.Lock
	switch lock, err := p.Engine.Holder(ctx, name); {
	case err == nil:
		current = &lock
		is := p.rowOf(current)
		is.Waiters = len(d.Queue)
		shown := v.own(is)
		d.Lock, d.May = &shown, shown.May
	case errors.Is(err, store.ErrGone):
		d.May = v.may(&row{Name: name})
	default:
		return nil, err
	}
	first := midnight(now.In(zone)).AddDate(0, 0, 1-shownDays)
	ended, err := p.Engine.History(ctx, store.HistoryQuery{
		Name: name, Since: first.UTC(), Limit: wire.MaxHistory,
	})
	if err != nil {
		return nil, err
	}
	d.add(ended, current, first, now)
	return d, nil
}

// add adds the tenures, the newest first, and what they amount to in the days from first to now.
func (d *details) add(ended []store.Ended, current *store.Lock, first, now time.Time) {
	for i := range shownDays {
		at := first.AddDate(0, 0, i)
		d.Days = append(d.Days, day{Day: at.Format(time.DateOnly)})
	}
	var waits, holds []time.Duration
	for i := range ended {
		e := &ended[i]
		if current != nil && e.ID == current.ID {
			current = nil // it has ended meanwhile
		}
		if len(d.History) < shownTenures {
			d.History = append(d.History, newTenure(e))
		}
		if e.How == store.Cancelled {
			continue // nobody came to hold it
		}
		waits, holds = append(waits, e.Waited), append(holds, e.At.Sub(e.CreatedAt))
		d.held(e.CreatedAt, e.At, first)
	}
	if current != nil {
		holds = append(holds, now.Sub(current.CreatedAt))
		d.held(current.CreatedAt, now, first)
	}
	d.Tenures, d.Wait, d.Hold = len(holds), newSpread(waits), newSpread(holds)
}

// held adds a time to the days that it is part of.
func (d *details) held(from, until, first time.Time) {
	for i := range d.Days {
		begin, end := first.AddDate(0, 0, i), first.AddDate(0, 0, i+1)
		if from.After(begin) {
			begin = from
		}
		if until.Before(end) {
			end = until
		}
		d.Days[i].Held += max(end.Sub(begin), 0).Seconds()
	}
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

func newWaiter(w *store.Waiter) waiter {
	who := ""
	if w.Creator != nil {
		who = *w.Creator
	}
	return waiter{who, w.Owner, w.Priority, w.Since, w.Names}
}

func newTenure(e *store.Ended) tenure {
	who, _, _ := wire.CutMarkOf(e.Creator)
	return tenure{
		who, e.Owner, e.CreatedAt, e.At, e.How.String(), e.By, e.Reason, e.Waited.Seconds(),
	}
}

func newSpread(d []time.Duration) spread {
	slices.Sort(d)
	return spread{percentile(d, 50), percentile(d, 90), percentile(d, 99)}
}

// percentile returns the least of the durations, which are sorted, that at least p percent do not
// exceed, in seconds; 0 if there are none.
func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	seconds := d[(len(d)*p+99)/100-1].Seconds()
	return math.Round(seconds*1000) / 1000
}

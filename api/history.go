package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// MaxHistory is the largest Limit of a [HistoryQuery].
const MaxHistory = wire.MaxHistory

// HistoryQuery selects entries of the history. The zero HistoryQuery selects the newest 100.
type HistoryQuery struct {
	Name         string    // of the locks; "": any
	Since, Until time.Time // when they ended, both included; zero: no limit
	Limit        int       // so many entries at most, the newest; 0: 100; at most MaxHistory
}

// Ended is a lock that has ended: how it was, and its end. Its Creator is without a mark.
type Ended struct {
	Lock
	EndedAt time.Time `json:"ended_at"`
	How     string    `json:"ended"`    // released, broken, expired or cancelled
	By      string    `json:"ended_by"` // the name of the key; "" if it expired
	Reason  string    `json:"reason"`   // of the request that broke it; "" for most

	// Waited is how long the request had waited when the lock was created.
	Waited time.Duration `json:"-"`
}

// Waiter is a request that waits for a lock.
type Waiter struct {
	Names    []string  `json:"lock_names"` // of several, any one or all are wanted
	Creator  string    `json:"creator"`    // without a mark; "" if it has none
	IP       string    `json:"ip"`
	Owner    string    `json:"owner"` // the name of the key
	Priority int       `json:"priority"`
	Since    time.Time `json:"since"` // by the backend's clock
}

// History returns locks that have ended, the newest first. To get those before them, ask again with
// the EndedAt of the last one as Until: what ended at that instant comes again, so compare the IDs.
// The error is [ErrUnsupported] if the backend has no history.
func (c *Client) History(
	ctx context.Context, q HistoryQuery, opts ...CallOption,
) ([]Ended, error) {
	var all []Ended // what k.report has read
	k := &call{verb: "get the history", path: "/v1/history/", query: url.Values{}}
	k.name = q.Name
	if q.Name != "" {
		k.verb = "get the history of lock"
		k.query.Set("lock_name", q.Name)
		if !validName(q.Name) {
			k.bad = errName
		}
	}
	for name, t := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !t.IsZero() {
			k.query.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	switch {
	case q.Limit < 0 || q.Limit > MaxHistory:
		k.bad = fmt.Errorf("the limit %d is not from 0 to %d", q.Limit, MaxHistory)
	case q.Limit > 0:
		k.query.Set("limit", strconv.Itoa(q.Limit))
	}
	k.report = func(body []byte) error {
		ended, err := wire.DecodeHistory(body)
		all = make([]Ended, len(ended))
		for i := range ended {
			all[i] = endedOf(&ended[i])
		}
		return err
	}
	if err := c.ask(ctx, k, opts); err != nil {
		return nil, err
	}
	return all, nil
}

func endedOf(e *wire.Ended) Ended {
	return Ended{
		Lock: lockOf(&wire.Lock{
			ID: e.ID, Name: e.Name, Creator: e.Creator, IP: e.IP, Owner: e.Owner,
			ExpiresAt: e.ExpiresAt.UTC(), CreatedAt: e.CreatedAt.UTC(),
			UpdatedAt: e.UpdatedAt.UTC(), FencingToken: e.FencingToken,
		}),
		EndedAt: e.EndedAt.UTC(), How: e.Ended, By: e.EndedBy, Reason: e.Reason,
		Waited: time.Duration(e.Waited * float64(time.Second)).Round(time.Microsecond),
	}
}

// Waiting returns the requests that wait, in the order in which they will be served. Those of other
// servers over the same store are as they were up to 2 s ago. The error is [ErrUnsupported] if the
// backend does not list them.
func (c *Client) Waiting(ctx context.Context, opts ...CallOption) ([]Waiter, error) {
	var all []Waiter // what k.report has read
	k := &call{verb: "list waiters", path: "/v1/waiting/"}
	k.report = func(body []byte) error {
		waiters, err := wire.DecodeWaiters(body)
		all = make([]Waiter, len(waiters))
		for i, w := range waiters {
			all[i] = Waiter{
				Names: w.Names, IP: w.IP, Owner: w.Owner, Priority: w.Priority,
				Since: w.Since.UTC(),
			}
			if w.Creator != nil {
				all[i].Creator = *w.Creator
			}
		}
		return err
	}
	if err := c.ask(ctx, k, opts); err != nil {
		return nil, err
	}
	return all, nil
}

// ask does k, whose answer its report reads.
func (c *Client) ask(ctx context.Context, k *call, opts []CallOption) error {
	k.kind, k.method = isReport, http.MethodGet
	k.apply(opts)
	return c.do(ctx, k)
}

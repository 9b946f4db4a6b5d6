package pgstore

import (
	"encoding/json"

	"gitlab.com/relukko/relukko-go/server/store"
)

// published is a store.Waiter in the table board. Times are in microseconds since 1970.
type published struct {
	Names    []string `json:"n"`
	Creator  *string  `json:"c,omitempty"`
	IP       string   `json:"p,omitempty"`
	Owner    string   `json:"o,omitempty"`
	Priority int      `json:"y,omitempty"`
	Since    int64    `json:"s"`
	Rank     int64    `json:"r"`
}

func encodeWaiters(waiters []store.Waiter) (string, error) {
	all := make([]published, len(waiters))
	for i, w := range waiters {
		all[i] = published{
			w.Names, w.Creator, w.IP, w.Owner, w.Priority, w.Since.UnixMicro(), w.Rank.UnixMicro(),
		}
	}
	text, err := json.Marshal(all)
	return string(text), err
}

func decodeWaiters(text string) ([]store.Waiter, error) {
	var all []published
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	waiters := make([]store.Waiter, len(all))
	for i, w := range all {
		waiters[i] = store.Waiter{
			Names: w.Names, Creator: w.Creator, IP: w.IP, Owner: w.Owner, Priority: w.Priority,
			Since: fromMicro(w.Since), Rank: fromMicro(w.Rank),
		}
	}
	return waiters, nil
}

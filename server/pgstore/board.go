package pgstore

import (
	"encoding/json"
	"sync"

	"gitlab.com/relukko/relukko-go/server/store"
)

// board has what this server has published.
type board struct {
	mu      sync.Mutex
	waiters string // in JSON; "" while there are none
}

func (b *board) get() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiters
}

// set returns what was published before.
func (b *board) set(waiters string) (before string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, b.waiters = b.waiters, waiters
	return before
}

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

// encodeWaiters returns "" for no waiters.
func encodeWaiters(waiters []store.Waiter) (string, error) {
	if len(waiters) == 0 {
		return "", nil
	}
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

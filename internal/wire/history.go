package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxHistory is the largest number of entries that a request for the history can ask for.
const MaxHistory = 10_000

// BackupPath is where a server gives what its store has.
const BackupPath = "/v1/backup"

// Ended is an entry of the history: a lock as it was, and its end.
type Ended struct {
	ID           string    `json:"id"`
	Name         string    `json:"lock_name"`
	Creator      *string   `json:"creator"` // without a mark
	IP           string    `json:"ip"`
	ExpiresAt    time.Time `json:"expires_at"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	FencingToken uint64    `json:"fencing_token"`
	Owner        string    `json:"owner"`
	EndedAt      time.Time `json:"ended_at"`
	Ended        string    `json:"ended"`    // released, broken, expired or cancelled
	EndedBy      string    `json:"ended_by"` // the name of the key; "" where it expired
	Reason       string    `json:"reason"`
	Waited       float64   `json:"waited"` // seconds
}

// Waiter is a request that waits.
type Waiter struct {
	Names    []string  `json:"lock_names"`
	Creator  *string   `json:"creator"` // without a mark
	IP       string    `json:"ip"`
	Owner    string    `json:"owner"`
	Priority int       `json:"priority"`
	Since    time.Time `json:"since"`
}

// DecodeHistory returns the entries in body. The errors begin with "it" or "its", like those of
// [DecodeLock].
func DecodeHistory(body []byte) ([]Ended, error) {
	return decodeArray(body, "an entry of the history", func(e *Ended) error {
		id, ok := ParseID(e.ID)
		e.ID = id
		switch {
		case !ok:
			return errors.New("its id is not a UUID")
		case e.Name == "":
			return errors.New("its lock_name is missing or empty")
		case e.CreatedAt.IsZero() || e.EndedAt.IsZero():
			return errors.New("its created_at or ended_at is missing")
		case e.Ended == "":
			return errors.New("its member ended is missing or empty")
		}
		return nil
	})
}

// DecodeWaiters returns the waiters in body, with errors like those of [DecodeHistory].
func DecodeWaiters(body []byte) ([]Waiter, error) {
	return decodeArray(body, "a waiter", func(w *Waiter) error {
		switch {
		case len(w.Names) == 0:
			return errors.New("its lock_names are missing")
		case w.Since.IsZero():
			return errors.New("its since is missing")
		}
		return nil
	})
}

func decodeArray[T any](body []byte, what string, check func(*T) error) ([]T, error) {
	if s := scan(body); !s.array() {
		return nil, errNotArray
	}
	all := []T{}
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("it is not what was asked for: %w", err)
	}
	for i := range all {
		if err := check(&all[i]); err != nil {
			return nil, fmt.Errorf("element %d is not %s: %w", i, what, err)
		}
	}
	return all, nil
}

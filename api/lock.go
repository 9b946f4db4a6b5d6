package api

import (
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Lock is a lock as the backend describes it. Its times are the backend's, in
// UTC, and may differ from the local clock; only the distance between two of
// them means anything here.
type Lock struct {
	ID        string    `json:"id"` // a UUID in lower case, never used again
	Name      string    `json:"lock_name"`
	Creator   string    `json:"creator"` // "" where it has none
	IP        string    `json:"ip"`      // the creator's, as the backend saw it; "": not said
	ExpiresAt time.Time `json:"expires_at"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// FencingToken is larger for every later creation of the same name; 0 where
	// the backend has no fencing tokens.
	FencingToken uint64 `json:"fencing_token,omitzero"`

	// Waiters is the number of requests that queue for the name on the backend
	// that was asked, after Get and List; 0 where it does not say.
	Waiters int `json:"waiters,omitzero"`
}

func lockOf(l *wire.Lock) Lock {
	out := Lock{
		ID: l.ID, Name: l.Name, IP: l.IP,
		ExpiresAt: l.ExpiresAt, CreatedAt: l.CreatedAt, UpdatedAt: l.UpdatedAt,
		FencingToken: l.FencingToken, Waiters: l.Waiters,
	}
	if l.Creator != nil {
		out.Creator = *l.Creator
	}
	return out
}

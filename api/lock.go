package api

import (
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Lock is a lock as the backend describes it. Its times are in UTC by the backend's clock, which
// may differ from the local one: use only the difference between two of them.
type Lock struct {
	ID        string    `json:"id"` // a UUID in lower case, never used again
	Name      string    `json:"lock_name"`
	Creator   string    `json:"creator"` // "" if it has none
	IP        string    `json:"ip"`      // the creator's address; "" if the backend does not say
	ExpiresAt time.Time `json:"expires_at"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// FencingToken is larger than that of every earlier lock of the name; 0 if the backend has no
	// fencing tokens.
	FencingToken uint64 `json:"fencing_token,omitzero"`

	// Owner is the name of the key that created it; "" if the backend does not say.
	Owner string `json:"owner,omitzero"`

	// Waiters is the number of requests that wait for the name, on all servers of the store. Only
	// Get, Find and List set it; 0 if the backend does not say.
	Waiters int `json:"waiters,omitzero"`
}

func lockOf(l *wire.Lock) Lock {
	out := Lock{
		ID: l.ID, Name: l.Name, IP: l.IP,
		ExpiresAt: l.ExpiresAt, CreatedAt: l.CreatedAt, UpdatedAt: l.UpdatedAt,
		FencingToken: l.FencingToken, Owner: l.Owner, Waiters: l.Waiters,
	}
	if l.Creator != nil {
		out.Creator = *l.Creator
	}
	return out
}

package httpapi

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Config sets up a Handler.
type Config struct {
	Keys       []access.Key
	Limits     guard.Limits
	Grace      time.Duration       // how long an expired lock, not leased, still holds its name
	MaxWaiters int                 // how many acquires may wait at a time
	History    store.HistoryLimits // what is kept of the locks that have ended
	Log        *slog.Logger
	Audit      *slog.Logger     // nil: Log
	Observer   observe.Observer // or nil

	TrustedProxies []netip.Prefix // whose word about the client's address counts

	Page *web.Config // nil: there is none

	original *Original // nil: this is a backend of its own kind
}

// DefaultConfig returns the configuration of a server without options.
func DefaultConfig() Config {
	return Config{
		Grace:      3 * time.Minute,
		Limits:     guard.Limits{MaxOpen: 10_000, MaxRequests: 5_000},
		MaxWaiters: 20_000,
		History:    store.HistoryLimits{Age: 90 * 24 * time.Hour, Max: 1_000_000},
		Log:        slog.New(slog.DiscardHandler),
	}
}

// Original says which of the backends of old to look like, for tests of clients. None of them has
// anything that goes beyond the original API.
type Original struct {
	Gone     int                 // the status that says that a lock is gone; 0: 404
	Deleted  func(wire.Lock) any // what the member deleted of a broadcast holds; nil: true
	NoSocket bool                // there are no broadcasts
}

// LikeOriginal is an option that makes a backend look like an original one. Deleted must be safe
// for concurrent use.
func LikeOriginal(o Original) func(*Config) {
	return func(c *Config) { c.original = &o }
}

// Ours is an option that undoes [LikeOriginal].
func Ours() func(*Config) { return func(c *Config) { c.original = nil } }

// gone returns the status that says that a lock is gone.
func (c *Config) gone() int {
	if c.original != nil && c.original.Gone != 0 {
		return c.original.Gone
	}
	return http.StatusNotFound
}

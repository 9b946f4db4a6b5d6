package httpapi

import (
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Config sets up a Handler.
type Config struct {
	Keys       [][sha256.Size]byte // hashes of the API keys
	Grace      time.Duration       // how long an expired lock, not leased, still holds its name
	MaxWaiters int                 // how many creates may queue at a time
	Log        *slog.Logger

	TrustedProxies []netip.Prefix // whose word about the client's address counts

	// The rest makes a backend look like the original one, for tests of clients.
	off          [extensions]bool
	gone         int // the status that says that a lock is gone
	deletedShape func(wire.Lock) any
}

// DefaultConfig returns the configuration of a server without options.
func DefaultConfig() Config {
	return Config{
		Grace:      3 * time.Minute,
		MaxWaiters: 5000,
		Log:        slog.New(slog.DiscardHandler),
		gone:       http.StatusNotFound,
	}
}

func (c *Config) has(ext Extension) bool { return !c.off[ext] }

// Extension is something that this backend offers beyond the original API.
type Extension int

const (
	ExtWait             Extension = iota // Prefer: wait=N on a create
	ExtCallOff                           // DELETE /v1/waiting/{mark}
	ExtHolder                            // the member lock of a 409
	ExtWaiters                           // the member waiters of locks in answers to GET
	ExtBroadcastContent                  // the locks in broadcasts, instead of {"deleted":true}
	ExtFencingToken                      // the member fencing_token of every lock
	ExtLease                             // Prefer: lease=N on a create

	extensions int = iota
)

// String returns the extension's name.
func (e Extension) String() string {
	switch e {
	case ExtWait:
		return "wait"
	case ExtCallOff:
		return "call-off"
	case ExtHolder:
		return "holder"
	case ExtWaiters:
		return "waiters"
	case ExtBroadcastContent:
		return "broadcast-content"
	case ExtFencingToken:
		return "fencing-token"
	case ExtLease:
		return "lease"
	default:
		return "Extension(" + strconv.Itoa(int(e)) + ")"
	}
}

// AllExtensions returns all extensions.
func AllExtensions() []Extension {
	all := make([]Extension, extensions)
	for i := range all {
		all[i] = Extension(i)
	}
	return all
}

// Without is an option that switches these extensions off, and all others on.
func Without(ext ...Extension) func(*Config) {
	return func(c *Config) {
		c.off = [extensions]bool{}
		for _, e := range ext {
			c.off[e] = true
		}
	}
}

// GoneStatus is an option that sets the status that says that a lock is gone: 404, or 422 as older
// backends have it.
func GoneStatus(status int) func(*Config) {
	return func(c *Config) { c.gone = status }
}

// DeletedShape is an option that sets what the member deleted of a broadcast holds; nil is this
// backend's own. Shape must be safe for concurrent use.
func DeletedShape(shape func(wire.Lock) any) func(*Config) {
	return func(c *Config) { c.deletedShape = shape }
}

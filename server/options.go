package server

import (
	"crypto/sha256"
	"log/slog"
	"strconv"
	"time"
)

// Option sets up a Server.
type Option func(*config)

type config struct {
	keys       [][sha256.Size]byte
	grace      time.Duration
	log        *slog.Logger
	off        [extensions]bool
	gone       int
	maxWaiters int
	deleted    func(Lock) any
}

func (c *config) has(ext Extension) bool { return !c.off[ext] }

// Extension is something that this backend offers beyond the original Relukko API. All are on unless switched off.
type Extension int

const (
	ExtWait             Extension = iota // Prefer: wait=N on a create
	ExtCallOff                           // DELETE /v1/waiting/{mark}
	ExtHolder                            // the member lock of a 409
	ExtWaiters                           // the member waiters of locks in answers to GET
	ExtBroadcastContent                  // {"created": lock}, {"updated": lock}, {"deleted": lock} instead of {"deleted": true}
	ExtFencingToken                      // the member fencing_token of every lock

	extensions int = iota
)

// String answers the extension's name.
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
	default:
		return "Extension(" + strconv.Itoa(int(e)) + ")"
	}
}

// AllExtensions answers all extensions there are.
func AllExtensions() []Extension {
	all := make([]Extension, extensions)
	for i := range all {
		all[i] = Extension(i)
	}
	return all
}

// WithAPIKeys lets in requests that carry one of these keys as X-API-KEY. May be given several times. Empty keys
// are ignored; without any key every request but /healthchecker is refused.
func WithAPIKeys(keys ...string) Option {
	return func(c *config) { c.keys = append(c.keys, hashed(keys)...) }
}

// hashed returns the hashes of the keys that are not empty.
func hashed(keys []string) (hashes [][sha256.Size]byte) {
	for _, key := range keys {
		if key != "" {
			hashes = append(hashes, sha256.Sum256([]byte(key)))
		}
	}
	return hashes
}

// WithGrace sets how long an expired lock still holds its name before it is swept: 3 min by default, none with 0.
func WithGrace(d time.Duration) Option {
	return func(c *config) { c.grace = max(d, 0) }
}

// WithLogger has the server log to l: refused keys and an unavailable store at warn, other failures of the store and panics at
// error, every request at debug. Keys are never logged. By default the server is silent.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) {
		if l != nil {
			c.log = l
		}
	}
}

// WithoutExtensions switches extensions off, for backends that must look like the original one.
func WithoutExtensions(ext ...Extension) Option {
	return func(c *config) {
		for _, e := range ext {
			c.off[e] = true
		}
	}
}

// WithGoneStatus sets the status that says that a lock is gone: 404, or 422 as older backends have it.
func WithGoneStatus(status int) Option {
	return func(c *config) { c.gone = status }
}

// WithMaxWaiters sets how many creates may queue at once, all names together: 5000 by default. More are
// refused with 503.
func WithMaxWaiters(n int) Option {
	return func(c *config) { c.maxWaiters = n }
}

// WithDeletedShape sets what the member deleted of a broadcast holds, for tests of clients that must cope with
// every shape of it. It wins over ExtBroadcastContent for deletions, and must be safe to call concurrently.
func WithDeletedShape(shape func(Lock) any) Option {
	return func(c *config) { c.deleted = shape }
}

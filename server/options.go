package server

import (
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"time"

	"gitlab.com/relukko/relukko-go/internal/httpapi"
)

// Option sets up a Server.
type Option func(*config)

type config = httpapi.Config

// WithAPIKeys admits requests that carry one of these keys as X-API-KEY. It may be given several
// times. Empty keys are ignored. Without any key every request but /healthchecker is refused.
func WithAPIKeys(keys ...string) Option {
	return func(c *config) { c.Keys = append(c.Keys, hashed(keys)...) }
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

// WithGrace sets how long an expired lock still holds its name before it is swept. The default is
// 3 min; with 0 there is no grace.
func WithGrace(d time.Duration) Option {
	return func(c *config) { c.Grace = max(d, 0) }
}

// WithLogger makes the server log to l: refused keys and an unavailable store at warn, releases by
// another than the holder at info, other failures of the store and panics at error, every request
// at debug. Keys are never logged. By default the server is silent.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) {
		if l != nil {
			c.Log = l
		}
	}
}

// WithTrustedProxies makes the server believe what these proxies say about the client's address: it
// is that of the nearest hop that is not one of them, by X-Forwarded-For or, without that, by
// Forwarded. The proxies must set the one or remove the other, or clients can claim any address.
// May be given several times. By default a lock has the address of the peer.
func WithTrustedProxies(proxies ...netip.Prefix) Option {
	return func(c *config) { c.TrustedProxies = append(c.TrustedProxies, proxies...) }
}

// WithMaxWaiters sets how many creates may wait at a time, all names together. The default is
// 5000. More are refused with 503.
func WithMaxWaiters(n int) Option {
	return func(c *config) { c.MaxWaiters = n }
}

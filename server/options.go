package server

import (
	"log/slog"
	"net/netip"
	"time"

	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Option configures a [Server].
type Option func(*config)

type config = httpapi.Config

// WithAPIKeys adds keys that may do everything, as [access.Admins] makes them, to those that a
// request may carry as X-API-KEY. Empty keys are ignored.
func WithAPIKeys(keys ...string) Option { return WithKeys(access.Admins(keys...)...) }

// WithKeys adds keys, each with a name, a role and perhaps patterns. Of several with one hash the
// first counts. Without any key, which is the default, every request that needs one is refused.
func WithKeys(keys ...access.Key) Option {
	return func(c *config) { c.Keys = append(c.Keys, keys...) }
}

// WithGrace sets how long an expired lock keeps its name before it is swept. The default is 3 min;
// 0 or less means no grace. Leased locks have a grace of their own.
func WithGrace(d time.Duration) Option {
	return func(c *config) { c.Grace = max(d, 0) }
}

// WithMaxHold bounds how long a lock is held: with a key that is not an admin's, expires_at is set
// to d after created_at at most, when the lock is created and whenever its expiry is set. The
// default, also for 0 or less, is no bound. Keys of [WithAPIKeys] are those of admins.
func WithMaxHold(d time.Duration) Option {
	return func(c *config) { c.Limits.MaxHold = max(d, 0) }
}

// WithHistory sets what is kept of the locks that have ended: for how long, and about how many of
// them. The default is 90 days and 1,000,000; with 0 for one of them nothing is kept. What exceeds
// that is deleted in small steps.
func WithHistory(age time.Duration, most int) Option {
	return func(c *config) { c.History = store.HistoryLimits{Age: age, Max: most} }
}

// WithLogger sets the logger: an unavailable store is logged at warn, other failures of the store
// and panics at error, every request at debug. Keys are never logged. The default, also for nil, is
// not to log.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) {
		if l != nil {
			c.Log = l
		}
	}
}

// WithAuditLog sets the logger for the audit log, which is the logger of [WithLogger] by default,
// also for nil. It gets a line at info for each change of a lock by another key than the one that
// owns it, or by another client than its holder, and at warn for what was refused: each request
// that its key may not make, at most 100 in a minute for the keys of one name, and requests with
// wrong keys, at most one line a second.
func WithAuditLog(l *slog.Logger) Option { return func(c *config) { c.Audit = l } }

// WithTrustedProxies adds to the proxies that the server believes about a client's address. The IP
// of a lock is then the nearest address in X-Forwarded-For, or else in Forwarded, that is not one
// of these proxies. The proxies must set one of these headers and remove the other, or a client can
// claim any address. By default the IP is the address of the connection's peer; "unix" on a Unix
// socket, whose peers are trusted where 127.0.0.1 is.
func WithTrustedProxies(proxies ...netip.Prefix) Option {
	return func(c *config) { c.TrustedProxies = append(c.TrustedProxies, proxies...) }
}

// WithMaxWaiters sets how many requests may wait for locks at a time, for all names together. The
// default is 20,000. Further ones that would wait are refused with 503.
func WithMaxWaiters(n int) Option {
	return func(c *config) { c.MaxWaiters = n }
}

// Page is the page that [WithPage] serves.
type Page struct {
	// User and Password sign in as an admin whose key has the name User, which must be one that
	// [access.Key.Check] accepts. Without both, only keys sign in.
	User, Password string
	// PublicView lets everybody read without signing in.
	PublicView bool
}

// WithPage serves a page for browsers at GET /, on which people see the locks live and change them
// as their keys may. By default there is none.
func WithPage(p Page) Option {
	return func(c *config) {
		c.Page = &web.Config{User: p.User, Password: p.Password, PublicView: p.PublicView}
	}
}

// WithMaxAcquires sets how many acquires may be open at a time, waiting or being served, with keys
// of one name that are not an admin's. The default is 10,000; 0 or less is no bound. Further ones
// are refused with 429.
func WithMaxAcquires(n int) Option {
	return func(c *config) { c.Limits.MaxOpen = max(n, 0) }
}

// WithMaxRequests sets how many requests may be made in a second, over HTTP and on streams, with
// keys of one name that are not an admin's. The default is 5,000; 0 or less is no bound. Further
// ones are refused with 429. Requests that renew or release a lock are neither counted nor refused.
func WithMaxRequests(n int) Option {
	return func(c *config) { c.Limits.MaxRequests = max(n, 0) }
}

// WithObserver has the server tell o what it does. Package metrics has an Observer. The default,
// also for nil, is none.
func WithObserver(o observe.Observer) Option { return func(c *config) { c.Observer = o } }

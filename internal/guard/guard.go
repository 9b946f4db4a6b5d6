// Package guard has the keys of a server. It says which clients are admitted, checks what they may
// do, over HTTP and on the stream alike, and writes the audit log: what was refused, and what was
// done to the locks of others. Package access decides what a key may do.
package guard

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// The errors of Admit and of a Client's checks, beside FloodError and access.DeniedError.
var (
	// ErrWrongKey means that the server has no such key, or that the request has none.
	ErrWrongKey = errors.New("relukko: wrong or missing X-API-KEY")
	// ErrKeyGone means that the key of a client that was admitted is no longer one of the server's.
	ErrKeyGone = errors.New("relukko: this X-API-KEY is not valid any more")
	// ErrTooManyRequests means that the keys of a name have made too many requests of late.
	ErrTooManyRequests = errors.New("relukko: too many requests with keys of this name")
)

// FloodError means that too many requests from the address had a wrong key.
type FloodError struct {
	Address string
	Retry   time.Duration // after which the address may try again
}

func (e *FloodError) Error() string { return "relukko: too many wrong keys from " + e.Address }

// RetryAfter returns Retry for a header: whole seconds, at least as long.
func (e *FloodError) RetryAfter() string {
	return strconv.Itoa(int((e.Retry + time.Second - 1) / time.Second))
}

// Limits bound what clients do whose keys are not an admin's; 0: no bound.
type Limits struct {
	MaxHold     time.Duration // for which a lock is held
	MaxOpen     int           // acquires with the keys of one name
	MaxRequests int           // in a second, with the keys of one name
}

// Guard has the keys of a server. Make one with New.
type Guard struct {
	keys     atomic.Pointer[keySet]
	limits   Limits
	audit    audit
	floods   floods
	rates    rates
	observer observe.Observer
}

// New returns a guard with these keys, which writes the audit log to log, and tells the observer,
// which may be nil, what it refuses.
func New(keys []access.Key, limits Limits, log *slog.Logger, observer observe.Observer) *Guard {
	g := &Guard{limits: limits, audit: audit{log: log}, observer: observer}
	g.rates.most = limits.MaxRequests
	g.keys.Store(newKeySet(keys))
	return g
}

// refused tells the observer.
func (g *Guard) refused(reason observe.Reason) {
	if g.observer != nil {
		g.observer.AccessRefused(reason)
	}
}

// SetKeys replaces the keys. Of several with one hash the first counts.
func (g *Guard) SetKeys(keys []access.Key) {
	close(g.keys.Swap(newKeySet(keys)).replaced)
}

// Admit returns the client of a request with that key. Without a right one it returns ErrWrongKey
// or a *FloodError.
func (g *Guard) Admit(key string, from Origin) (*Client, error) {
	c := &Client{Origin: from, guard: g, hash: sha256.Sum256([]byte(key))}
	if found := g.keys.Load().find(c.hash); found.key != nil {
		c.name = found.key.Name
		c.now.Store(found)
		return c, nil
	}
	w := g.floods.add(from.IP)
	if w.write {
		g.audit.wrongKey(&from, &w)
	}
	if w.retry > 0 {
		g.refused(observe.TooMany)
		return nil, &FloodError{from.IP, w.retry}
	}
	g.refused(observe.WrongKey)
	return nil, ErrWrongKey
}

// AdmitGuess is Admit for what people choose, and others may guess: an address that has sent too
// many wrong keys gets a *FloodError for a right one too.
func (g *Guard) AdmitGuess(key string, from Origin) (*Client, error) {
	if retry := g.floods.retry(from.IP); retry > 0 {
		return nil, &FloodError{from.IP, retry}
	}
	return g.Admit(key, from)
}

// Client is a client that was admitted, with one request or one connection. Its rights are those
// that its key has at each moment.
type Client struct {
	Origin
	guard *Guard
	hash  hash
	name  string
	now   atomic.Pointer[standing] // in the set in which the key was last looked up
}

// Name returns the name of the key.
func (c *Client) Name() string { return c.name }

// From returns the client for a request from elsewhere.
func (c *Client) From(from Origin) *Client {
	other := &Client{Origin: from, guard: c.guard, hash: c.hash, name: c.name}
	other.now.Store(c.now.Load())
	return other
}

// SignedIn records that the client has begun a session on the page.
func (c *Client) SignedIn() { c.guard.audit.signedIn(&c.Origin, c.name) }

// Key returns the key as it is now, or nil if it is gone, and a channel that is closed when that
// may have changed. A key that has another name now counts as gone.
func (c *Client) Key() (key *access.Key, replaced <-chan struct{}) {
	now, set := c.now.Load(), c.guard.keys.Load()
	if now.set != set {
		now = set.find(c.hash)
		if now.key != nil && now.key.Name != c.name {
			now = set.none
		}
		c.now.Store(now)
	}
	return now.key, set.replaced
}

// Unlimited reports whether the client may do everything, whatever the lock is.
func (c *Client) Unlimited() bool {
	key, _ := c.Key()
	return key != nil && key.Unlimited()
}

// Admin reports whether the client is an admin, whom no limit bounds.
func (c *Client) Admin() bool {
	key, _ := c.Key()
	return key != nil && key.Role == access.Admin
}

// Limits returns what bounds the client.
func (c *Client) Limits() Limits {
	if c.Admin() {
		return Limits{}
	}
	return c.guard.limits
}

// Spend counts a request that neither renews nor releases a lock. It returns ErrTooManyRequests if
// the keys of the client's name have made too many within a second.
func (c *Client) Spend() error {
	if c.Limits().MaxRequests > 0 && !c.guard.rates.take(c.name) {
		return ErrTooManyRequests
	}
	return nil
}

// Check returns nil if the client may do that to the lock, and else ErrKeyGone or an
// *access.DeniedError. Of a lock that is to be created only the name counts. A refusal is written
// to the audit log.
func (c *Client) Check(do access.Action, lock *store.Lock) error {
	err := c.May(do, lock)
	if err != nil {
		reason := observe.NotAllowed
		if errors.Is(err, ErrKeyGone) {
			reason = observe.KeyGone
		}
		c.guard.refused(reason)
		c.guard.audit.refused(&c.Origin, c.name, err, c.attrs(do, lock))
	}
	return err
}

// Allowed returns those of the names whose locks the client may create, in their order. If that is
// none, or not all where it wants all, the error is that of Check for the first that it may not.
func (c *Client) Allowed(names []string, all bool) (allowed []string, err error) {
	if c.Unlimited() {
		return names, nil
	}
	var refused *store.Lock
	for _, name := range names {
		lock := &store.Lock{Name: name}
		if c.May(access.Create, lock) == nil {
			allowed = append(allowed, name)
		} else if refused == nil {
			refused = lock
		}
	}
	if refused == nil || len(allowed) > 0 && !all {
		return allowed, nil
	}
	return nil, c.Check(access.Create, refused)
}

// May is Check for what was not requested: nothing is written.
func (c *Client) May(do access.Action, lock *store.Lock) error {
	key, _ := c.Key()
	if key == nil {
		return ErrKeyGone
	}
	return key.May(do, lock.Name, lock.Owner)
}

// Did records that the client did that to the lock. It is written to the audit log unless the lock
// is the client's own, and it is the holder as far as is known.
func (c *Client) Did(do access.Action, lock *store.Lock, holder bool, reason string) {
	if lock.Owner == c.name && holder {
		return
	}
	what := "a lock was changed by another than its owner"
	if do == access.Delete {
		what = "a lock was released by another than its holder"
	}
	c.guard.audit.changed(&c.Origin, what, reason, c.attrs(do, lock))
}

// TakesBackup writes to the audit log that the client takes a backup.
func (c *Client) TakesBackup() {
	c.guard.audit.changed(&c.Origin, "a backup is taken", "",
		c.attrs(access.Backup, &store.Lock{}))
}

// attrs returns who does what to which lock, if it is one.
func (c *Client) attrs(do access.Action, lock *store.Lock) []slog.Attr {
	role := "none"
	if key, _ := c.Key(); key != nil {
		role = key.Role.String()
	}
	attrs := []slog.Attr{
		slog.String("action", string(do)), slog.String("key", c.name), slog.String("role", role),
	}
	if lock.ID == "" && lock.Name == "" {
		return attrs
	}
	if lock.ID == "" { // it is not there yet
		return append(attrs, slog.String("lock", lock.Name))
	}
	creator := ""
	if lock.Creator != nil {
		creator = *lock.Creator
	}
	return append(attrs, slog.String("owner", lock.Owner), slog.String("lock", lock.Name),
		slog.String("id", lock.ID), slog.String("holder", creator),
		slog.String("holder_ip", lock.IP))
}

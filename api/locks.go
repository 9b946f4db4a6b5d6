package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Lock is a lock as the backend describes it. Its times are the backend's, in
// UTC, and may differ from the local clock; only the distance between two of
// them means anything here.
type Lock struct {
	ID        string    `json:"id"` // a UUID in lower case, never used again
	Name      string    `json:"lock_name"`
	Creator   string    `json:"creator"` // "" where it has none
	IP        string    `json:"ip"`      // the creator's, as the backend saw it; "" where it does not say
	ExpiresAt time.Time `json:"expires_at"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// FencingToken is larger for every later creation of the same name; 0 where
	// the backend has no fencing tokens.
	FencingToken uint64 `json:"fencing_token,omitzero"`

	// Waiters is how many requests queue for the name on the backend that was
	// asked, in the answers to Get and List; 0 where it does not say.
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

// Update is what [Client.Update] changes. The zero Update changes neither.
type Update struct {
	Creator   *string    // nil keeps the creator
	ExpiresAt *time.Time // nil keeps the expiry; may lie in the past
}

// A CreateOption changes one call of [Client.Create].
type CreateOption func(*createOptions)

type createOptions struct{ wait time.Duration }

// Wait lets a backend that can queue requests keep this one for up to d (in
// whole seconds, rounded up, at most 30 s) while the name is held, and answer
// when its turn comes. Any other backend answers at once, see
// [Client.MaxWait]. Zero and less: do not wait.
func Wait(d time.Duration) CreateOption {
	return func(o *createOptions) { o.wait = d }
}

const (
	maxWait         = wire.MaxWait
	defaultDuration = 5 * time.Minute // of KeepAlive and AddToExpiry, as on the backend
)

// errNotText is for a creator that JSON cannot carry: sent all the same, another
// one would come back.
var errNotText = errors.New("a creator is valid UTF-8")

// Create asks for the lock name, once: the request is never repeated, neither
// here nor by net/http once a byte of it was written. creator says who asks;
// "" for nobody. On success the lock is new, lives for 10 minutes (60 s where
// it came from a queue) until it is kept alive, and is the caller's to delete.
//
// The error is [ErrHeld] when somebody holds the name, with the holder in
// [Error].Holder where the backend says. After an error for which [NoEffect] is
// false the lock may exist all the same: look for it by its name and creator,
// or, when creator ends in a mark, see [Client.CallOff].
func (c *Client) Create(ctx context.Context, name, creator string, opts ...CreateOption) (Lock, error) {
	var o createOptions
	for _, opt := range opts {
		opt(&o)
	}
	k := &call{verb: "create lock", name: name, kind: isCreate, method: http.MethodPost, once: true}
	switch {
	case name == "" || !utf8.ValidString(name):
		k.bad = errors.New("a lock's name is valid UTF-8 and not empty")
	case !utf8.ValidString(creator):
		k.bad = errNotText
	}
	if seconds := (min(o.wait, maxWait) + time.Second - 1) / time.Second; seconds > 0 {
		k.wait = seconds * time.Second
	}
	k.like.Name = name
	if creator != "" {
		k.creator = creator
		k.like.Creator = &k.creator
	}
	k.body = wire.AppendCreate(k.buffer[:0], name, k.like.Creator)
	if err := c.do(ctx, k); err != nil {
		return Lock{}, err
	}
	return k.lock, nil
}

// Get returns the lock id; [ErrGone] when there is none.
func (c *Client) Get(ctx context.Context, id string) (Lock, error) {
	return c.one(ctx, &call{verb: "get lock", method: http.MethodGet}, id)
}

// List returns all locks, in the backend's order. Locks that have expired stay
// in it until the backend sweeps them. No locks: an empty slice, not nil.
func (c *Client) List(ctx context.Context) ([]Lock, error) {
	k := &call{verb: "list locks", kind: isList, method: http.MethodGet}
	if err := c.do(ctx, k); err != nil {
		return nil, err
	}
	return k.list, nil
}

// Update changes the lock id and returns it as it is then; [ErrGone] when
// there is none. An expiry in the past ends the lock at the backend's next sweep.
func (c *Client) Update(ctx context.Context, id string, u Update) (Lock, error) {
	k := &call{verb: "update lock", method: http.MethodPut}
	if u.Creator != nil && !utf8.ValidString(*u.Creator) {
		k.bad = errNotText
	}
	if u.ExpiresAt != nil {
		if y := u.ExpiresAt.UTC().Year(); y < 0 || y > 9999 {
			k.bad = fmt.Errorf("RFC 3339 has no year %d", y)
		}
	}
	k.body = wire.AppendUpdate(k.buffer[:0], wire.Update{Creator: u.Creator, ExpiresAt: u.ExpiresAt})
	return c.one(ctx, k, id)
}

// Delete deletes the lock id and returns it as it was; [ErrGone] when there is
// none. "Gone" with [Error].MaybeDone means that this very call deleted it, in
// all likelihood, in an attempt whose answer was lost.
func (c *Client) Delete(ctx context.Context, id string) (Lock, error) {
	return c.one(ctx, &call{verb: "delete lock", method: http.MethodDelete}, id)
}

// KeepAlive makes the lock id expire d from now, by the backend's clock, and
// returns it as it is then; [ErrGone] when there is none. d may have
// fractions of a second; 0 stands for the backend's 5 minutes.
func (c *Client) KeepAlive(ctx context.Context, id string, d time.Duration) (Lock, error) {
	return c.lengthen(ctx, &call{verb: "keep alive lock", path: "/keep_alive", method: http.MethodPut}, id, d)
}

// AddToExpiry makes the lock id expire d later than it would, and returns it
// as it is then; [ErrGone] when there is none. 0 stands for the backend's 5
// minutes. Like Create it makes one attempt: two would add twice.
func (c *Client) AddToExpiry(ctx context.Context, id string, d time.Duration) (Lock, error) {
	return c.lengthen(ctx, &call{verb: "add to expiry of lock", path: "/add_to_expire_at", method: http.MethodPut, once: true}, id, d)
}

func (c *Client) lengthen(ctx context.Context, k *call, id string, d time.Duration) (Lock, error) {
	if d < 0 {
		k.bad = fmt.Errorf("%v is negative", d)
	}
	if d == 0 {
		d = defaultDuration
	}
	k.body = wire.AppendSeconds(k.buffer[:0], d)
	return c.one(ctx, k, id)
}

// Health returns nil when the backend says that it is up. It needs no API key.
func (c *Client) Health(ctx context.Context) error {
	return c.do(ctx, &call{verb: "pass the health check", kind: isHealth, method: http.MethodGet})
}

// CallOff withdraws the create whose creator ends in " #" and mark: it leaves
// the backend's queue, the lock that it made is deleted, and if it arrives
// only later it is refused. nil means that all this is so. A backend that
// cannot do this answers an *[Error] (404 or 405, mostly).
// A mark is 12 letters a to z and digits 2 to 7.
func (c *Client) CallOff(ctx context.Context, mark string) error {
	k := &call{verb: "call off create", name: mark, kind: isCallOff, method: http.MethodDelete}
	if !wire.ValidMark(mark) {
		k.bad = errors.New("a mark is 12 letters a to z and digits 2 to 7")
	}
	return c.do(ctx, k)
}

// MaxWait is how long the backend lets a create wait for its turn, as its last
// answer to a create said: something to hand to [Wait]. 0 where it cannot, or
// was never asked.
func (c *Client) MaxWait() time.Duration { return time.Duration(c.maxWait.Load()) }

// CanCallOff reports whether the backend can call creates off, as its last
// answer to a create said (in the header Relukko-Call-Off, which our own
// backend adds). Where it can, a create may be broken off at any time:
// [Client.CallOff] then sees to what it did or will do. [Client.CallOff] can be
// tried in any case.
func (c *Client) CanCallOff() bool { return c.callOff.Load() }

// one does k, which is about the lock id.
func (c *Client) one(ctx context.Context, k *call, id string) (Lock, error) {
	lower, ok := wire.ParseID(id)
	if !ok {
		lower, k.bad = id, errors.New("a lock's id is a UUID")
	}
	k.id, k.like.ID, k.kind = lower, lower, isLock
	if err := c.do(ctx, k); err != nil {
		return Lock{}, err
	}
	return k.lock, nil
}

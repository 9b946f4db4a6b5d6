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

const defaultDuration = 5 * time.Minute // of KeepAlive and AddToExpiry, as on the backend

// What JSON cannot carry is refused here: the backend would store another text.
var (
	errName    = errors.New("a lock's name is valid UTF-8 and not empty")
	errCreator = errors.New("a creator is valid UTF-8")
	errID      = errors.New("a lock's id is a UUID")
)

func validName(name string) bool { return name != "" && utf8.ValidString(name) }

// Create creates a lock of this name, which the caller then holds. creator says who asks; "" is
// nobody. The lock expires after 10 minutes, or 60 s if it was granted from a queue (see [Wait]),
// or as [Lease] says, unless it is kept alive. Create makes one attempt, and net/http does not
// repeat the request once a byte was written.
//
// The error is [ErrHeld] if another lock holds the name; [Error.Holder] is that lock if the backend
// says. After an error for which [NoEffect] is false the lock may have been created, or may still
// be: look for it by its name and creator.
func (c *Client) Create(
	ctx context.Context, name, creator string, opts ...CallOption,
) (Lock, error) {
	k := &call{
		verb: "create lock", name: name, kind: isCreate, method: http.MethodPost, once: true,
	}
	switch {
	case !validName(name):
		k.bad = errName
	case !utf8.ValidString(creator):
		k.bad = errCreator
	}
	k.like.Name = name
	if creator != "" {
		k.creator = creator
		k.like.Creator = &k.creator
	}
	k.body = wire.AppendCreate(k.buffer[:0], name, k.like.Creator)
	k.apply(opts)
	if err := c.do(ctx, k); err != nil {
		return Lock{}, err
	}
	return k.lock, nil
}

// Get returns the lock with this id, or [ErrGone] if there is none.
func (c *Client) Get(ctx context.Context, id string, opts ...CallOption) (Lock, error) {
	return c.one(ctx, &call{verb: "get lock", method: http.MethodGet}, id, opts)
}

// List returns all locks, in the backend's order. Some may have expired without being swept yet. If
// there are none, it returns an empty slice that is not nil.
func (c *Client) List(ctx context.Context, opts ...CallOption) ([]Lock, error) {
	k := &call{verb: "list locks", kind: isList, method: http.MethodGet}
	k.apply(opts)
	if err := c.do(ctx, k); err != nil {
		return nil, err
	}
	return k.list, nil
}

// Find returns the lock that holds the name, or [ErrGone] if there is none. The lock may have
// expired without being swept yet. Find costs as much as List on a backend that cannot search by
// name.
func (c *Client) Find(ctx context.Context, name string, opts ...CallOption) (Lock, error) {
	k := &call{verb: "find lock", name: name, kind: isList, method: http.MethodGet}
	if !validName(name) {
		k.bad = errName
	}
	k.apply(opts)
	if err := c.do(ctx, k); err != nil {
		return Lock{}, err
	}
	if len(k.list) == 0 {
		none := &cleaned{text: "nobody holds it", err: ErrGone}
		return Lock{}, &failure{op: k.op(), err: none, notSent: true}
	}
	return k.list[0], nil
}

// Update is a change of a lock, for [Client.Update]. The zero Update keeps both.
type Update struct {
	Creator   *string    // nil keeps the creator
	ExpiresAt *time.Time // nil keeps the expiry; may lie in the past
}

// Update changes the lock with this id and returns the changed lock, or [ErrGone] if there is none.
// After an expiry in the past the backend may sweep the lock.
func (c *Client) Update(
	ctx context.Context, id string, u Update, opts ...CallOption,
) (Lock, error) {
	k := &call{verb: "update lock", method: http.MethodPut}
	if u.Creator != nil && !utf8.ValidString(*u.Creator) {
		k.bad = errCreator
	}
	if u.ExpiresAt != nil {
		if y := u.ExpiresAt.UTC().Year(); y < 0 || y > 9999 {
			k.bad = fmt.Errorf("RFC 3339 has no year %d", y)
		}
	}
	k.body = wire.AppendUpdate(k.buffer[:0], wire.Update(u))
	return c.one(ctx, k, id, opts)
}

// Delete deletes the lock with this id and returns it as it was, or [ErrGone] if there is none. If
// the error is ErrGone and [Error.MaybeDone] is set, this call most likely deleted the lock, by a
// request whose response was lost.
func (c *Client) Delete(ctx context.Context, id string, opts ...CallOption) (Lock, error) {
	return c.one(ctx, &call{verb: "delete lock", method: http.MethodDelete}, id, opts)
}

// KeepAlive makes the lock with this id expire d from now, by the backend's clock, and returns the
// changed lock, or [ErrGone] if there is none. d may have fractions of a second; 0 means 5 minutes;
// a negative d is an error.
func (c *Client) KeepAlive(
	ctx context.Context, id string, d time.Duration, opts ...CallOption,
) (Lock, error) {
	k := &call{verb: "keep alive lock", path: "/keep_alive", method: http.MethodPut}
	return c.lengthen(ctx, k, id, d, opts)
}

// AddToExpiry makes the lock with this id expire d later than before, and returns the changed lock,
// or [ErrGone] if there is none. d may have fractions of a second; 0 means 5 minutes; a negative d
// is an error. Like Create, AddToExpiry makes one attempt, since two could add d twice.
func (c *Client) AddToExpiry(
	ctx context.Context, id string, d time.Duration, opts ...CallOption,
) (Lock, error) {
	k := &call{
		verb: "add to expiry of lock", path: "/add_to_expire_at",
		method: http.MethodPut, once: true,
	}
	return c.lengthen(ctx, k, id, d, opts)
}

// Health returns nil if the backend says that it is up. It needs no API key.
func (c *Client) Health(ctx context.Context) error {
	return c.do(ctx, &call{verb: "pass the health check", kind: isHealth, method: http.MethodGet})
}

func (c *Client) lengthen(
	ctx context.Context, k *call, id string, d time.Duration, opts []CallOption,
) (Lock, error) {
	if d < 0 {
		k.bad = fmt.Errorf("%v is negative", d)
	}
	if d == 0 {
		d = defaultDuration
	}
	k.body = wire.AppendSeconds(k.buffer[:0], d)
	return c.one(ctx, k, id, opts)
}

// one does k, which is about the lock id.
func (c *Client) one(ctx context.Context, k *call, id string, opts []CallOption) (Lock, error) {
	lower, ok := wire.ParseID(id)
	if !ok {
		lower, k.bad = id, errID
	}
	k.id, k.like.ID, k.kind = lower, lower, isLock
	k.apply(opts)
	if err := c.do(ctx, k); err != nil {
		return Lock{}, err
	}
	return k.lock, nil
}

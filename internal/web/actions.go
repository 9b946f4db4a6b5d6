package web

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	maxBody   = 16 << 10 // bytes
	maxReason = 500      // bytes
	// takeLease is for how long a lock is created before its expiry is set.
	takeLease = time.Minute
)

// request is the body of a request for an action.
type request struct {
	Name   string    `json:"name"`
	ID     string    `json:"id"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// answer is the response to it, or an error.
type answer struct {
	OK   bool    `json:"ok"`
	Lock *ownRow `json:"lock,omitempty"`
}

// action does something for a visitor that is signed in. It returns the lock; nil if it is gone.
type action func(*Page, context.Context, visitor, *request) (*store.Lock, error)

var actions = map[string]action{
	"reserve": (*Page).reserve, "service": (*Page).service, "extend": (*Page).extend,
	"release": (*Page).release, "break": (*Page).breakLock,
}

// changes is the handler of an action.
func (p *Page) changes(act action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, _ := p.visitor(r)
		if v.client == nil {
			writeError(w, http.StatusUnauthorized, "You are not signed in.")
			return
		}
		in, err := readRequest(w, r)
		var lock *store.Lock
		if err == nil {
			lock, err = act(p, r.Context(), v, in)
		}
		if err != nil {
			p.fail(w, r, err, in.Name)
			return
		}
		out := answer{OK: true}
		if lock != nil {
			is := newRow(lock, false, 0, time.Now())
			shown := v.own(is)
			out.Lock = &shown
		}
		writeJSON(w, http.StatusOK, out)
	}
}

// readRequest reads the body. That must be called JSON, which no form of another site can send.
func readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	in := new(request)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "application/json" {
		return in, refuse(http.StatusUnsupportedMediaType, "The body must be application/json.")
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(in); err != nil {
		return in, refuse(http.StatusBadRequest, "The request cannot be read: %v", err)
	}
	in.Reason = wire.Printable(in.Reason, maxReason)
	return in, nil
}

// reserve takes a free name until a time.
func (p *Page) reserve(ctx context.Context, v visitor, in *request) (*store.Lock, error) {
	if err := inFuture(in.Until); err != nil {
		return nil, err
	}
	return p.take(ctx, v, in)
}

// service takes a free name until somebody releases it.
func (p *Page) service(ctx context.Context, v visitor, in *request) (*store.Lock, error) {
	in.Until = wire.UntilReleased
	return p.take(ctx, v, in)
}

func inFuture(until time.Time) error {
	switch {
	case until.IsZero():
		return refuse(http.StatusBadRequest, "Say until when.")
	case !until.After(time.Now()):
		return refuse(http.StatusBadRequest, "That time is over.")
	case until.After(wire.UntilReleased):
		return refuse(http.StatusBadRequest, "That is later than the year 9999.")
	}
	return nil
}

// take makes a lock, and then sets its expiry, as relukko hold does.
func (p *Page) take(ctx context.Context, v visitor, in *request) (*store.Lock, error) {
	creator := wire.WithReason(v.client.Name(), in.Reason)
	// The limits are those of a create over HTTP.
	name, holder, err := wire.DecodeCreate(wire.AppendCreate(nil, in.Name, &creator))
	if bad, ok := errors.AsType[*wire.RequestError](err); ok {
		said := strings.NewReplacer("lock_name", "The name", "creator", "The reason")
		err = refuse(http.StatusBadRequest, "%s.", said.Replace(bad.Message))
	}
	if err == nil {
		err = v.client.Spend()
	}
	if err == nil {
		err = v.client.Check(access.Create, &store.Lock{Name: name})
	}
	if err == nil {
		err = holdable(v.client, time.Now(), in.Until)
	}
	if err != nil {
		return nil, err
	}
	lock, err := p.create(ctx, &engine.Waiter{
		Names: []string{name}, MaxHold: v.client.Limits().MaxHold,
		MaxOpen: v.client.Limits().MaxOpen, New: store.NewLock{
			Creator: holder, IP: v.client.IP, Owner: v.client.Name(), TTL: takeLease, Leased: true,
		},
	})
	if err != nil {
		return nil, err
	}
	until := in.Until.UTC().Truncate(time.Microsecond)
	change := store.Change{ExpiresAt: &until, MaxHold: v.client.Limits().MaxHold}
	updated, err := p.Engine.Update(ctx, lock.ID, change)
	if err != nil {
		how := store.Ending{How: store.Released, By: v.client.Name()}
		_, _ = p.Engine.Release(ctx, lock.ID, how) // else it expires within takeLease
		return nil, err
	}
	return &updated, nil
}

// holdable returns an error if the server does not let the client hold a lock for so long.
func holdable(client *guard.Client, since, until time.Time) error {
	longest := client.Limits().MaxHold
	if longest > 0 && until.Sub(since) > longest {
		return refuse(http.StatusForbidden, "This server lets a lock be held for %v at most "+
			"(relukko serve --max-hold), except by admins.", longest)
	}
	return nil
}

// extend sets the expiry of a lock that nobody renews.
func (p *Page) extend(ctx context.Context, v visitor, in *request) (*store.Lock, error) {
	if err := inFuture(in.Until); err != nil {
		return nil, err
	}
	if err := v.client.Spend(); err != nil {
		return nil, err
	}
	lock, err := p.find(ctx, in.ID)
	if err == nil {
		err = v.client.Check(access.Update, lock)
	}
	if err == nil {
		err = holdable(v.client, lock.CreatedAt, in.Until)
	}
	if err != nil {
		return nil, err
	}
	if p.rowOf(lock).Renewed {
		return nil, refuse(http.StatusConflict, "%q was not extended: %s.", lock.Name, isRenewed)
	}
	until := in.Until.UTC().Truncate(time.Microsecond)
	change := store.Change{ExpiresAt: &until, MaxHold: v.client.Limits().MaxHold}
	updated, err := p.Engine.Update(ctx, lock.ID, change)
	if err != nil {
		return nil, err
	}
	v.client.Did(access.Update, &updated, true, "")
	return &updated, nil
}

// release ends a lock of the visitor's own that no program holds.
func (p *Page) release(ctx context.Context, v visitor, in *request) (*store.Lock, error) {
	lock, err := p.find(ctx, in.ID)
	if err == nil {
		err = v.client.Check(access.Delete, lock)
	}
	if err != nil {
		return nil, err
	}
	is := p.rowOf(lock)
	if why := v.mayNotRelease(&is); why != "" {
		return nil, refuse(http.StatusConflict, "%q was not released: %s.", lock.Name, why)
	}
	return nil, p.end(ctx, v, lock, store.Released, "")
}

// breakLock ends a lock, also of another holder. It goes by the id, so it cannot hit the next one.
func (p *Page) breakLock(ctx context.Context, v visitor, in *request) (*store.Lock, error) {
	if in.Reason == "" {
		return nil, refuse(http.StatusBadRequest, "Say why: it stands in the history.")
	}
	lock, err := p.find(ctx, in.ID)
	if err == nil {
		err = v.client.Check(access.Delete, lock)
	}
	if err != nil {
		return nil, err
	}
	return nil, p.end(ctx, v, lock, store.Broken, in.Reason)
}

// end deletes a lock. It is its holder's own doing, as far as is known, if it was created from the
// same address without a program that has put a mark on it.
func (p *Page) end(
	ctx context.Context, v visitor, lock *store.Lock, how store.How, reason string,
) error {
	ended, err := p.Engine.Release(ctx, lock.ID, store.Ending{
		How: how, By: v.client.Name(), Reason: reason,
	})
	if err != nil {
		return err
	}
	_, _, marked := wire.CutMarkOf(ended.Creator)
	own := how == store.Released && !marked && ended.IP == v.client.IP
	v.client.Did(access.Delete, &ended, own, reason)
	return nil
}

// find returns the lock with that id.
func (p *Page) find(ctx context.Context, id string) (*store.Lock, error) {
	id, ok := wire.ParseID(id)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "The request has no id of a lock.")
	}
	lock, err := p.Engine.Get(ctx, id)
	return &lock, err
}

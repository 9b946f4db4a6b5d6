package httpapi

import (
	"errors"
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// locks lists all locks, or finds one by its name.
func (a *api) locks(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	if r.URL.Query().Has("lock_name") {
		a.list(w, r)
		return
	}
	a.long(reads(a.list))(w, r, client)
}

func (a *api) list(w http.ResponseWriter, r *http.Request) {
	locks, err := a.find(r)
	if err != nil {
		a.fail(w, r, err, "")
		return
	}
	a.introduce(w)
	withWaiters := a.wantsWaiters(r)
	var waiters map[string]int
	if withWaiters {
		if waiters, err = a.engine.Waiters(r.Context()); err != nil {
			a.fail(w, r, err, "")
			return
		}
	}
	b := make([]byte, 0, 2+400*len(locks))
	b = append(b, '[')
	for i := range locks {
		if i > 0 {
			b = append(b, ',')
		}
		l := a.onWire(&locks[i])
		l.HasWaiters, l.Waiters = withWaiters, waiters[l.Name]
		b = wire.AppendLock(b, &l)
	}
	writeJSON(w, http.StatusOK, append(b, ']'))
}

// find returns all locks, or those with the name that the query asks for.
func (a *api) find(r *http.Request) ([]store.Lock, error) {
	names, ok := r.URL.Query()["lock_name"]
	if !ok {
		return a.engine.List(r.Context())
	}
	lock, err := a.engine.Holder(r.Context(), names[0])
	switch {
	case err == nil:
		return []store.Lock{lock}, nil
	case errors.Is(err, store.ErrGone):
		return nil, nil
	default:
		return nil, err
	}
}

func (a *api) get(w http.ResponseWriter, r *http.Request) {
	id, ok := a.pathID(w, r)
	if !ok {
		return
	}
	lock, err := a.engine.Get(r.Context(), id)
	if err != nil {
		a.fail(w, r, err, reply.ID(id))
		return
	}
	l := a.onWire(&lock)
	if a.wantsWaiters(r) {
		waiters, err := a.engine.Waiters(r.Context())
		if err != nil {
			a.fail(w, r, err, "")
			return
		}
		l.HasWaiters, l.Waiters = true, waiters[l.Name]
	}
	writeJSON(w, http.StatusOK, wire.AppendLock(make([]byte, 0, 512), &l))
}

func (a *api) update(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	a.change(w, r, client, access.Update, readUpdate)
}

func (a *api) keepAlive(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	a.change(w, r, client, access.Renew, func(
		w http.ResponseWriter, r *http.Request,
	) (store.Change, error) {
		lease, err := readSeconds(w, r)
		return store.Change{Lease: &lease}, err
	})
}

func (a *api) addToExpiry(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	a.change(w, r, client, access.Update, func(
		w http.ResponseWriter, r *http.Request,
	) (store.Change, error) {
		extend, err := readSeconds(w, r)
		return store.Change{Extend: extend}, err
	})
}

// change changes the lock in the path as the body says.
func (a *api) change(
	w http.ResponseWriter, r *http.Request, client *guard.Client, do access.Action,
	read func(http.ResponseWriter, *http.Request) (store.Change, error),
) {
	id, ok := a.pathID(w, r)
	if !ok {
		return
	}
	change, err := read(w, r)
	if err == nil {
		err = a.check(r, client, do, id)
	}
	if err != nil {
		a.fail(w, r, err, reply.ID(id))
		return
	}
	change.MaxHold = client.Limits().MaxHold
	lock, err := a.engine.Update(r.Context(), id, change)
	if err != nil {
		a.fail(w, r, err, reply.ID(id))
		return
	}
	client.Did(do, &lock, true, "")
	a.writeLock(w, http.StatusOK, &lock)
}

// check returns an error if the client may not do that to the lock with that id. The name and the
// owner of a lock never change, so it may do it afterwards too.
func (a *api) check(r *http.Request, client *guard.Client, do access.Action, id string) error {
	if client.Unlimited() {
		return nil
	}
	lock, err := a.engine.Get(r.Context(), id)
	if err != nil {
		return err
	}
	return client.Check(do, &lock)
}

func (a *api) delete(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	id, ok := a.pathID(w, r)
	if !ok {
		return
	}
	var lock store.Lock
	how := ending(r, client.Name())
	err := a.check(r, client, access.Delete, id)
	if err == nil {
		lock, err = a.engine.Release(r.Context(), id, how)
	}
	if err == nil {
		own := how.How == store.Released && releasesOwn(r, client, &lock)
		client.Did(access.Delete, &lock, own, how.Reason)
	}
	if mark := r.Header.Get(wire.HeaderMark); mark != "" && a.original == nil {
		lock, err = a.byHolder(client, lock, err, id, mark)
	}
	if err != nil {
		a.fail(w, r, err, reply.ID(id))
		return
	}
	a.writeLock(w, http.StatusOK, &lock)
}

// ending returns how a delete ends a lock: a person's tool gives a reason, which may be empty.
func ending(r *http.Request, key string) store.Ending {
	reason, broken := r.Header[wire.HeaderReason]
	if !broken {
		return store.Ending{How: store.Released, By: key}
	}
	return store.Ending{How: store.Broken, By: key, Reason: wire.ParseReason(reason[0])}
}

// releasesOwn reports whether a release comes from the lock's own holder, as far as is known. That
// one sends the mark at the end of the creator; a lock without a mark is released from the address
// that created it.
func releasesOwn(r *http.Request, client *guard.Client, lock *store.Lock) bool {
	if _, _, marked := wire.CutMarkOf(lock.Creator); marked {
		return bears(lock, r.Header.Get(wire.HeaderMark))
	}
	return lock.IP == client.IP
}

// byHolder returns the outcome of a delete by a client that knows the mark of the lock. The mark of
// another owner's lock counts for nothing.
func (a *api) byHolder(
	client *guard.Client, lock store.Lock, err error, id, mark string,
) (store.Lock, error) {
	switch {
	case err == nil && lock.Owner == client.Name() && bears(&lock, mark):
		a.releases.add(&lock)
		a.engine.Announce(store.Event{Kind: store.EventReleased, Lock: lock, Mark: mark})
	case errors.Is(err, store.ErrGone):
		if before, ok := a.releases.find(id, mark); ok && before.Owner == client.Name() {
			return before, nil
		}
	}
	return lock, err
}

// pathID returns the id in the path. One that is not a UUID is gone like any other.
func (a *api) pathID(w http.ResponseWriter, r *http.Request) (string, bool) {
	id, ok := wire.ParseID(r.PathValue("id"))
	if !ok {
		writeError(w, a.gone(), "there is no such lock: the id is not a UUID")
	}
	return id, ok
}

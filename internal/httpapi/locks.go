package httpapi

import (
	"errors"
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

func (a *api) health(w http.ResponseWriter, r *http.Request) {
	if err := a.engine.Ping(r.Context()); err != nil {
		a.fail(w, r, err, "")
		return
	}
	writeJSON(w, http.StatusOK, []byte(`{"status":200,"message":"up"}`))
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

func (a *api) update(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, readUpdate)
}

func (a *api) keepAlive(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, func(w http.ResponseWriter, r *http.Request) (store.Change, error) {
		lease, err := readSeconds(w, r)
		return store.Change{Lease: &lease}, err
	})
}

func (a *api) addToExpiry(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, func(w http.ResponseWriter, r *http.Request) (store.Change, error) {
		extend, err := readSeconds(w, r)
		return store.Change{Extend: extend}, err
	})
}

// change changes the lock in the path as the body says.
func (a *api) change(
	w http.ResponseWriter, r *http.Request,
	read func(http.ResponseWriter, *http.Request) (store.Change, error),
) {
	id, ok := a.pathID(w, r)
	if !ok {
		return
	}
	change, err := read(w, r)
	if err != nil {
		a.fail(w, r, err, reply.ID(id))
		return
	}
	lock, err := a.engine.Update(r.Context(), id, change)
	if err != nil {
		a.fail(w, r, err, reply.ID(id))
		return
	}
	a.writeLock(w, http.StatusOK, &lock)
}

func (a *api) delete(w http.ResponseWriter, r *http.Request) {
	id, ok := a.pathID(w, r)
	if !ok {
		return
	}
	lock, err := a.engine.Release(r.Context(), id, ending(r, keyName))
	if err == nil {
		a.logRelease(r, &lock)
	}
	if mark := r.Header.Get(wire.HeaderMark); mark != "" && a.original == nil {
		lock, err = a.byHolder(lock, err, id, mark)
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

// logRelease logs a release that does not come from the lock's own holder. That one sends the mark
// at the end of the creator; a lock without a mark is released from the address that created it. A
// person's tool gives a reason.
func (a *api) logRelease(r *http.Request, lock *store.Lock) {
	creator := ""
	if lock.Creator != nil {
		creator = *lock.Creator
	}
	reason := wire.ParseReason(r.Header.Get(wire.HeaderReason))
	ip := a.clientAddress(r)
	_, _, marked := wire.CutMark(creator)
	own := marked && bears(lock, r.Header.Get(wire.HeaderMark)) || !marked && lock.IP == ip
	if own && reason == "" {
		return
	}
	a.Log.Info("a lock was released by another than its holder",
		"lock", lock.Name, "id", lock.ID, "holder", creator, "holder_ip", lock.IP,
		"ip", ip, "user_agent", wire.Printable(r.UserAgent(), maxLogged), "reason", reason)
}

// maxLogged is how many bytes of a header are logged.
const maxLogged = 200

// byHolder returns the outcome of a delete by a client that knows the mark of the lock.
func (a *api) byHolder(lock store.Lock, err error, id, mark string) (store.Lock, error) {
	switch {
	case err == nil && bears(&lock, mark):
		a.releases.add(&lock)
		a.engine.Announce(store.Event{Kind: store.EventReleased, Lock: lock, Mark: mark})
	case errors.Is(err, store.ErrGone):
		if before, ok := a.releases.find(id, mark); ok {
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

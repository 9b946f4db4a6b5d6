package engine

import (
	"context"
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Release deletes a lock and grants its name to the first waiter, in one step where that is known.
// By is the name of the key. It is not undone when ctx ends.
func (e *Engine) Release(_ context.Context, id, by string) (lock store.Lock, err error) {
	ended := make(chan struct{})
	e.Delete(nil, id, by, func(l store.Lock, failed error) {
		lock, err = l, failed
		close(ended)
	})
	<-ended
	return lock, err
}

// Delete does what Release does for a connection, which is not told that the lock was deleted. Done
// is called once, without the mutex.
func (e *Engine) Delete(c *Conn, id, by string, done func(store.Lock, error)) {
	e.do(func() { e.release(c, id, by, done) })
}

func (e *Engine) release(c *Conn, id, by string, done func(store.Lock, error)) {
	q := e.byHolder[id]
	if q == nil || q.busy || q.retrying || q.reserved != nil || e.heldAtStart(id) {
		e.delete(c, id, by, done)
		return
	}
	w, _ := e.first(q, true)
	if w == nil {
		e.delete(c, id, by, done)
		return
	}
	h := handOver{try: e.begin(q, w), id: id, conn: c, by: by}
	e.call(func() { h.run(e) }, func() {
		h.ended(e, q, w)
		e.later(func() { done(h.deleted, h.err) })
	})
}

// delete deletes a lock, and then offers its name.
func (e *Engine) delete(c *Conn, id, by string, done func(store.Lock, error)) {
	var lock store.Lock
	var err error
	e.call(func() { lock, err = e.storeDelete(id) }, func() {
		switch {
		case err == nil:
			e.deleted(&lock, by, c)
		case errors.Is(err, store.ErrGone):
			e.lost(id)
		}
		e.later(func() { done(lock, err) })
	})
}

// storeDelete is the store's Delete. A panic of the store becomes an error.
func (e *Engine) storeDelete(id string) (lock store.Lock, err error) {
	err = e.guarded(func() (err error) {
		lock, err = e.store.Delete(context.Background(), id)
		return err
	})
	return lock, err
}

// handOver deletes a lock and creates the next one for a waiter.
type handOver struct {
	*try
	id   string // of the lock that is released
	conn *Conn  // that releases it
	by   string

	deleted store.Lock
	err     error // of the delete
	free    bool  // only the delete was done,
	unsure  bool  // as far as is known
}

// run makes the store calls. A waiter whose mark must be claimed first is served after the delete.
// After an error that does not pass the two steps are taken one by one: a create that fails must
// not prevent the delete.
func (h *handOver) run(e *Engine) {
	var both store.Handover
	err := errors.ErrUnsupported
	if h.ready(e) {
		err = e.guarded(func() (err error) {
			both, err = e.store.HandOver(context.Background(), h.id, h.in)
			return err
		})
	}
	switch {
	case err == nil:
		h.deleted, h.err = both.Deleted, both.DeleteErr
		h.lock, h.try.err = both.Created, both.CreateErr
	case isUnavailable(err):
		h.err, h.try.err = err, err
	default:
		h.unsure = !errors.Is(err, errors.ErrUnsupported)
		h.deleted, h.err = e.storeDelete(h.id)
		h.free = true
	}
}

// ended handles the results.
func (h *handOver) ended(e *Engine, q *queue, w *Waiter) {
	switch {
	case h.err == nil:
		q.sawDeleted(&h.deleted)
		e.gone(&h.deleted, h.by, h.conn)
		e.setHolder(q, nil)
	case errors.Is(h.err, store.ErrGone):
		e.lost(h.id)
	}
	if !h.free {
		e.tried(q, w, h.try)
		return
	}
	w.calling = nil
	if h.unready && h.claimed != 0 {
		w.New.Claim = h.claimed
	}
	if h.unsure {
		w.unready, w.pure = true, false
	}
	e.settle(w)
	if w.ended && w.undo {
		e.undoMark(w.key)
	}
	q.busy = false
	e.offer(q)
	e.tidy(q)
}

// remove deletes a lock that its client does not know of, now or when the store is back.
func (e *Engine) remove(lock *store.Lock) {
	e.release(nil, lock.ID, lock.Owner, func(_ store.Lock, err error) {
		if err != nil && !errors.Is(err, store.ErrGone) {
			e.Log.Warn("cannot delete a lock whose client is gone, trying again",
				"lock", lock.Name, "id", lock.ID, "error", err)
			e.do(func() { e.after(retryPause, func() { e.remove(lock) }) })
		}
	})
}

// heldAtStart reports whether the lock was there when the engine started, a moment ago.
func (e *Engine) heldAtStart(id string) bool {
	if e.fresh == nil {
		return false
	}
	_, fresh := e.fresh[id]
	return !fresh
}

// Renew sets the lease of a lock on a connection, which hears of the lock from then on. Done is
// called once, without the mutex.
func (e *Engine) Renew(c *Conn, id string, lease time.Duration, done func(store.Lock, error)) {
	var lock store.Lock
	var err error
	e.do(func() {
		e.call(func() {
			err = e.guarded(func() (err error) {
				lock, err = e.store.Update(context.Background(), id, store.Change{Lease: &lease})
				return err
			})
		}, func() {
			switch {
			case err == nil:
				e.updated(&lock)
				e.renewed(c, &lock)
			case errors.Is(err, store.ErrGone):
				e.lost(id)
			}
			e.later(func() { done(lock, err) })
		})
	})
}

func (e *Engine) renewed(c *Conn, lock *store.Lock) {
	if c.closed || !e.hold(c, lock.ID, markKey{}) {
		return
	}
	if q := e.byHolder[lock.ID]; q != nil {
		e.recounted(q)
	}
}

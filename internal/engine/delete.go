package engine

import (
	"context"
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// retryPause is the time between two attempts while the store is unavailable.
const retryPause = time.Second

// delete deletes a lock, and then offers its name. End is called under the mutex.
func (e *Engine) delete(c *Conn, id string, how store.Ending, end func(*store.Lock, error)) {
	var lock store.Lock
	var err error
	e.call(func() { lock, err = e.storeDelete(id, how) }, func() {
		switch {
		case err == nil:
			e.deleted(&lock, how.By, c)
		case errors.Is(err, store.ErrGone):
			e.lost(id)
		}
		end(&lock, err)
	})
}

// storeDelete is the store's Delete. A panic of the store becomes an error.
func (e *Engine) storeDelete(id string, how store.Ending) (lock store.Lock, err error) {
	err = e.guarded(func() (err error) {
		lock, err = e.store.Delete(context.Background(), id, how)
		return err
	})
	return lock, err
}

// storeHolder is the store's Holder. A panic of the store becomes an error.
func (e *Engine) storeHolder(name string) (lock store.Lock, err error) {
	err = e.guarded(func() (err error) {
		lock, err = e.store.Holder(context.Background(), name)
		return err
	})
	return lock, err
}

// deleted records a lock that is gone, and offers its name. By is the name of the key, or "". The
// connection that released it is not told.
func (e *Engine) deleted(lock *store.Lock, by string, releaser *Conn) {
	e.gone(lock, by, releaser)
	q := e.queues[lock.Name]
	if q == nil && e.fresh == nil {
		return
	}
	if e.fresh != nil {
		if _, fresh := e.fresh[lock.ID]; !fresh {
			q = e.queueOf(lock.Name)
			q.holdOff = e.started.Add(holdOff)
			e.after(time.Until(q.holdOff), func() { e.offerSoon(q); e.tidy(q) })
		}
	}
	if q != nil {
		q.sawDeleted(lock)
		if q.holder == nil || q.holder.FencingToken <= lock.FencingToken {
			e.setHolder(q, nil)
			e.offerSoon(q)
		}
		e.tidy(q)
	}
}

// lost records that the store has no lock with that id.
func (e *Engine) lost(id string) {
	e.forget(id)
	if q := e.byHolder[id]; q != nil {
		e.setHolder(q, nil)
		e.offerSoon(q)
		e.tidy(q)
	}
}

// undoMark cancels the mark that the engine made for an acquire, now or when the store is back. Its
// client does not know of a lock that there may be.
func (e *Engine) undoMark(key markKey) {
	e.cancelMark(nil, key, func(err error) {
		if err != nil {
			e.after(retryPause, func() { e.undoMark(key) })
		}
	})
}

// cancelMark cancels a mark in the store, for a connection, which is not told that its locks were
// deleted, or nil. End is called under the mutex.
func (e *Engine) cancelMark(c *Conn, key markKey, end func(error)) {
	var locks []store.Lock
	var err error
	e.call(func() {
		err = e.guarded(func() (err error) {
			locks, err = e.store.Cancel(context.Background(), key.owner, key.mark)
			return err
		})
	}, func() {
		for i := range locks {
			e.deleted(&locks[i], key.owner, c)
		}
		end(err)
	})
}

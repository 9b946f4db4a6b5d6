package engine

import (
	"context"
	"errors"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Release deletes a lock and grants its name to the first waiter, in one step where that is known.
// It is not undone when ctx ends.
func (e *Engine) Release(
	_ context.Context, id string, how store.Ending,
) (lock store.Lock, err error) {
	ended := make(chan struct{})
	e.Delete(nil, id, how, func(l store.Lock, failed error) {
		lock, err = l, failed
		close(ended)
	})
	<-ended
	return lock, err
}

// Delete does what Release does for a connection, which is not told that the lock was deleted. Done
// is called once, without the mutex.
func (e *Engine) Delete(c *Conn, id string, how store.Ending, done func(store.Lock, error)) {
	e.do(func() {
		e.release(c, id, how, func(lock *store.Lock, err error) {
			e.respond(c, func() { done(*lock, err) })
		})
	})
}

// Find passes the lock with that id to done, or the error of the store. Done is called once,
// without the mutex.
func (e *Engine) Find(id string, done func(store.Lock, error)) {
	var lock store.Lock
	var err error
	e.do(func() {
		e.call(func() {
			err = e.guarded(func() (err error) {
				lock, err = e.store.Get(context.Background(), id)
				return err
			})
		}, func() { e.later(func() { done(lock, err) }) })
	})
}

// Renew changes a lock, as a rule its lease, on a connection, which hears of the lock from then on.
// Done is called once, without the mutex.
func (e *Engine) Renew(c *Conn, id string, change store.Change, done func(store.Lock, error)) {
	var lock store.Lock
	var err error
	e.do(func() {
		e.call(func() {
			err = e.guarded(func() (err error) {
				lock, err = e.store.Update(context.Background(), id, change)
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
			e.respond(c, func() { done(lock, err) })
		})
	})
}

func (e *Engine) renewed(c *Conn, lock *store.Lock) {
	if c.closed || !e.hold(c, lock, markKey{}) {
		return
	}
	if q := e.byHolder[lock.ID]; q != nil {
		e.recounted(q)
	}
}

// HeldElsewhere reports whether another connection was the last to acquire or renew a lock.
func (e *Engine) HeldElsewhere(c *Conn, id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	holder := e.holding[id]
	return holder != nil && holder != c
}

package engine

import "gitlab.com/relukko/relukko-go/server/store"

// created records a lock that this server has created.
func (e *Engine) created(lock *store.Lock) {
	e.sweeper.expect(lock, e.Grace)
	e.publish(store.EventCreated, lock)
}

func (e *Engine) updated(lock *store.Lock) {
	e.sweeper.expect(lock, e.Grace)
	e.publish(store.EventUpdated, lock)
}

// gone tells those whom it concerns that a lock is gone.
func (e *Engine) gone(lock *store.Lock, by string, releaser *Conn) {
	e.publish(store.EventDeleted, lock)
	if c := e.forget(lock.ID); c != nil && c != releaser && !c.closed {
		e.tell(c.sink).Deleted(lock, by)
	}
}

// free handles a name that nobody has who could have it now.
func (e *Engine) free(q *queue) {
	if q.refused && q.holder == nil && q.last != nil {
		e.publish(store.EventDeleted, q.last)
	}
	q.refused = false
}

// heldAtStart reports whether the lock was there when the engine started, a moment ago.
func (e *Engine) heldAtStart(id string) bool {
	if e.fresh == nil {
		return false
	}
	_, fresh := e.fresh[id]
	return !fresh
}

// isFresh records that a lock with that id is not from before the engine's start.
func (e *Engine) isFresh(id string) {
	if e.fresh != nil {
		e.fresh[id] = struct{}{}
	}
}

func (e *Engine) publish(kind store.EventKind, lock *store.Lock) {
	e.Publish(store.Event{Kind: kind, Lock: *lock})
}

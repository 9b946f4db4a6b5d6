package engine

import (
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// queueOf returns the queue of a name.
func (e *Engine) queueOf(name string) *queue {
	q := e.queues[name]
	if q == nil {
		q = &queue{name: name, round: 1}
		e.queues[name] = q
	}
	return q
}

func (e *Engine) drop(q *queue) {
	if q.places.Len() == 0 && !q.busy && q.reserved == nil && !q.refused &&
		!time.Now().Before(q.holdOff) && e.queues[q.name] == q {
		delete(e.queues, q.name)
		e.setHolder(q, nil)
	}
}

// setHolder records the lock that holds the name of the queue; nil: none, or it is not known.
func (e *Engine) setHolder(q *queue, lock *store.Lock) {
	if q.holder != nil {
		if e.byHolder[q.holder.ID] == q {
			delete(e.byHolder, q.holder.ID)
		}
		if lock == nil || lock.ID != q.holder.ID {
			q.wanted = false
		}
	}
	q.holder = lock
	if lock != nil {
		if lock.ID != "" {
			e.byHolder[lock.ID] = q
		}
		q.refused = false
	}
	e.recounted(q)
}

// recounted tells the holder's connection that waiters have come, or that none is left.
func (e *Engine) recounted(q *queue) {
	if e.board != nil {
		e.board.changed = true
	}
	if q.holder == nil || q.wanted == (q.waiting > 0) || !q.wanted && !q.anyWaits() {
		return
	}
	if c := e.holding[q.holder.ID]; c != nil {
		q.wanted = q.waiting > 0
		if !c.locks[q.holder.ID].elsewhere {
			e.tell(c.sink).Wanted(q.holder.ID, q.waiting)
		}
	}
}

// recountedElsewhere tells the connections of holders that waiters have come on other servers, or
// that none is left there.
func (e *Engine) recountedElsewhere() {
	for id, c := range e.holding {
		lock := c.locks[id]
		n := len(e.board.elsewhere[lock.name])
		if lock.elsewhere == (n > 0) {
			continue
		}
		lock.elsewhere = n > 0
		c.locks[id] = lock
		if q := e.byHolder[id]; q == nil || !q.wanted {
			e.tell(c.sink).Wanted(id, n)
		}
	}
}

// hold records that a lock was acquired or renewed on the connection, and reports whether that is
// new. Only the connection that did so last hears of the lock.
func (e *Engine) hold(c *Conn, lock *store.Lock, mark markKey) bool {
	id := lock.ID
	if e.holding[id] == c {
		return false
	}
	e.forget(id)
	e.holding[id] = c
	c.locks[id] = heldLock{name: lock.Name, mark: mark}
	if q := e.byHolder[id]; q != nil {
		q.wanted = false // this one was not told
	}
	return true
}

// forget ends what hold records, and returns the connection, or nil.
func (e *Engine) forget(id string) *Conn {
	c := e.holding[id]
	if c != nil {
		delete(e.holding, id)
		delete(c.granted, c.locks[id].mark)
		delete(c.locks, id)
	}
	return c
}

// sink returns where the waiter's end is told, or nil if nobody wants to know.
func (e *Engine) sink(w *Waiter) Sink {
	switch {
	case w.Conn == nil:
		return w.Sink
	case w.Conn.closed || e.closing:
		return nil
	}
	return w.Conn.sink
}

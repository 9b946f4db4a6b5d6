package engine

import (
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	keepPlace  = 10 * time.Second // for which a place without a connection keeps its rank
	minSilence = time.Second      // at least, and
	maxSilence = time.Minute      // at most, until a silent connection is passed over
)

// Sink receives what concerns one connection, or one acquire over HTTP. All methods but Flush are
// called under the engine's mutex, in the order in which things happened: they must only record
// what they are told. Flush is called after them, without the mutex.
type Sink interface {
	// Granted ends an acquire. Seen is the largest number that was read from the connection before
	// the store call that created the lock, or 0 where that is not known.
	Granted(w *Waiter, lock *store.Lock, seen uint64)
	// Refused ends an acquire. Holder is the lock that holds the name; nil if that is not known.
	Refused(w *Waiter, err error, holder *store.Lock)
	// Waiting says how many are served before an acquire. Holder may be nil.
	Waiting(w *Waiter, ahead int, holder *store.Lock)
	// Deleted says that a lock of the connection was deleted with a key of that name; "": it
	// expired, or another server deleted it.
	Deleted(lock *store.Lock, by string)
	// Wanted says how many wait for a lock of the connection, where that has become 0 or has been 0.
	Wanted(id string, waiters int)
	Flush()
}

// Conn is a client's connection: it has places in queues, and locks.
type Conn struct {
	sink    Sink
	seen    atomic.Uint64
	heard   atomic.Int64 // when something was last read, since the engine's start
	passed  atomic.Bool  // a place was passed over because the connection was silent
	closed  bool
	leaving bool // it was closed after Bye: its client goes to the next server
	waiters map[*Waiter]struct{}
	locks   map[string]markKey // in Engine.holding, by id
	granted map[markKey]string // ids of locks that can be cancelled without memory of the mark
}

// Connect returns a new connection. The caller must call Disconnect in the end.
func (e *Engine) Connect(sink Sink) *Conn {
	c := &Conn{
		sink: sink, waiters: make(map[*Waiter]struct{}),
		locks: make(map[string]markKey), granted: make(map[markKey]string),
	}
	c.heard.Store(int64(time.Since(e.started)))
	return c
}

// Heard records that request n was read, before it is passed to the engine; with n = 0, that
// something else was read.
func (e *Engine) Heard(c *Conn, n uint64) {
	if n > 0 {
		c.seen.Store(n)
	}
	c.heard.Store(int64(time.Since(e.started)))
	if !c.passed.Load() || !c.passed.Swap(false) {
		return
	}
	e.do(func() {
		for w := range c.waiters {
			for _, p := range w.places {
				if p.at != nil && p.queue.holder == nil {
					e.offer(p.queue)
				}
			}
		}
	})
}

// Disconnect ends a connection. The places are given up if the client closed it; else they keep
// their ranks for keepPlace.
func (e *Engine) Disconnect(c *Conn, closed bool) {
	e.do(func() {
		c.closed, c.leaving = true, e.closing
		for id := range c.locks {
			delete(e.holding, id)
		}
		clear(c.locks)
		clear(c.granted)
		for w := range c.waiters {
			if closed {
				e.abandon(w)
			}
		}
		if len(c.waiters) > 0 {
			e.after(keepPlace, func() {
				for w := range c.waiters {
					e.finish(w) // its client may be on another server, and find a lock there
				}
			})
		}
	})
}

// silent reports whether the connection has been silent for half of the lease.
func (c *Conn) silent(now, lease time.Duration) bool {
	return now-time.Duration(c.heard.Load()) > min(max(lease/2, minSilence), maxSilence)
}

// hold records that a lock was acquired or renewed on the connection, and reports whether that is
// new. Only the connection that did so last hears of the lock.
func (e *Engine) hold(c *Conn, id string, mark markKey) bool {
	if e.holding[id] == c {
		return false
	}
	e.forget(id)
	e.holding[id] = c
	c.locks[id] = mark
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
		delete(c.granted, c.locks[id])
		delete(c.locks, id)
	}
	return c
}

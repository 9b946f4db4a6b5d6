package streamapi

import (
	"context"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

// These make a conn an [engine.Sink]. The engine calls them with its mutex locked, so they do no
// more than to collect a message in the outbox.

// Granted implements engine.Sink.
func (c *conn) Granted(w *engine.Waiter, lock *store.Lock, seen uint64) {
	c.owns(lock)
	c.send(&wire.StreamMessage{
		Kind: wire.MessageLock, N: w.N, Seen: seen, HasSeen: true, Lock: reply.Lock(lock),
	})
}

// Refused implements engine.Sink.
func (c *conn) Refused(w *engine.Waiter, err error, holder *store.Lock) {
	c.refuse(w.N, err, reply.Names(w.Names), holder)
}

// Waiting implements engine.Sink.
func (c *conn) Waiting(w *engine.Waiter, ahead int, holder *store.Lock) {
	c.send(&wire.StreamMessage{
		Kind: wire.MessageWaiting, N: w.N, Ahead: ahead, Rank: w.Rank.UnixMicro(),
		Holder: reply.LockOrNil(holder),
	})
}

// Deleted implements engine.Sink.
func (c *conn) Deleted(lock *store.Lock, by string) {
	c.disowns(lock.ID)
	c.send(&wire.StreamMessage{Kind: wire.MessageDeleted, Lock: reply.Lock(lock), By: by})
}

// Wanted implements engine.Sink.
func (c *conn) Wanted(id string, waiters int) {
	c.send(&wire.StreamMessage{Kind: wire.MessageWanted, ID: id, Waiters: waiters})
}

// Flush implements engine.Sink. It writes what was collected, or has it written.
func (c *conn) Flush() {
	c.outbox.flush()
	c.mu.Lock()
	failures := c.failures
	c.failures = nil
	c.mu.Unlock()
	for _, f := range failures {
		c.log.Log(context.Background(), f.level, f.message,
			"request", "stream", "about", f.about, "ip", c.client.IP, "error", f.err)
	}
}

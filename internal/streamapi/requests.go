package streamapi

import (
	"time"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// begin passes a request to the engine. The response may be sent before begin returns, or later by
// another goroutine.
func (c *conn) begin(req *wire.StreamRequest) {
	switch req.Kind {
	case wire.RequestAcquire, wire.RequestAcquireAll:
		c.acquire(req.N, &req.Acquire, req.Kind == wire.RequestAcquireAll)
	case wire.RequestCancel:
		c.cancel(req.N, req.Mark)
	case wire.RequestRenew:
		c.renew(req.N, req.ID, req.Lease)
	case wire.RequestRelease:
		c.release(req.N, req.ID)
	case wire.RequestPing:
		c.send(&wire.StreamMessage{Kind: wire.MessagePong, N: req.N})
	default:
		c.refuse(req.N, &wire.RequestError{Message: "this server does not know the request: " +
			"it knows acquire, acquire_all, cancel, renew, release and ping"}, "", nil)
	}
}

// acquire asks for those of the names that the key may lock. If that is none, a client that comes
// again may have a lock or a place nevertheless, from before. Its mark is cancelled, if the key may
// do that: another key of the name may have the mark.
func (c *conn) acquire(n uint64, a *wire.StreamAcquire, all bool) {
	if err := c.client.Spend(); err != nil {
		c.refuse(n, err, reply.Names(a.Names), nil)
		return
	}
	_, mark, _ := wire.CutMark(a.Creator)
	names, err := c.client.Allowed(a.Names, all)
	switch {
	case err != nil && a.Again && c.client.May(access.Cancel, &store.Lock{}) == nil:
		c.engine.Cancel(c.place, c.client.Name(), mark, func(error) { c.done(n, err, "") })
		return
	case err != nil:
		c.refuse(n, err, "", nil)
		return
	}
	var rank time.Time
	if a.Rank != 0 {
		rank = time.UnixMicro(a.Rank)
	}
	c.engine.Acquire(&engine.Waiter{
		Conn: c.place, Sink: c, N: n, Names: names, All: all,
		New: store.NewLock{
			Creator: &a.Creator, IP: c.client.IP, TTL: a.Lease, Leased: true,
			Owner: c.client.Name(), Mark: mark,
		},
		Wait: a.Wait, Progress: a.Progress, Again: a.Again, Priority: a.Priority, Waited: a.Waited,
		Rank: rank, Place: a.Place,
		MaxHold: c.client.Limits().MaxHold, MaxOpen: c.client.Limits().MaxOpen,
	})
}

func (c *conn) cancel(n uint64, mark string) {
	if err := c.client.Check(access.Cancel, &store.Lock{}); err != nil {
		c.refuse(n, err, "", nil)
		return
	}
	c.engine.Cancel(c.place, c.client.Name(), mark, func(err error) {
		c.done(n, err, "mark "+mark)
	})
}

func (c *conn) renew(n uint64, id string, lease time.Duration) {
	c.check(n, access.Renew, id, func() {
		change := store.Change{Lease: &lease, MaxHold: c.client.Limits().MaxHold}
		c.engine.Renew(c.place, id, change, func(lock store.Lock, err error) {
			if err != nil {
				c.done(n, err, reply.ID(id))
				return
			}
			c.owns(&lock)
			c.client.Did(access.Renew, &lock, true, "")
			c.send(&wire.StreamMessage{Kind: wire.MessageLock, N: n, Lock: reply.Lock(&lock)})
		})
	})
}

func (c *conn) release(n uint64, id string) {
	c.check(n, access.Delete, id, func() {
		c.disowns(id)
		foreign := c.engine.HeldElsewhere(c.place, id)
		how := store.Ending{How: store.Released, By: c.client.Name()}
		c.engine.Delete(c.place, id, how, func(lock store.Lock, err error) {
			if err == nil {
				c.client.Did(access.Delete, &lock, !foreign, "")
			}
			c.done(n, err, reply.ID(id))
		})
	})
}

// check calls then if the client may do that to the lock with that id, and else refuses request n.
// The name and the owner of a lock never change. So the store is asked only for those of locks that
// the client has not acquired or renewed here.
func (c *conn) check(n uint64, do access.Action, id string, then func()) {
	if c.client.Unlimited() {
		then()
		return
	}
	decide := func(lock store.Lock, err error) {
		if err == nil {
			err = c.client.Check(do, &lock)
		}
		if err != nil {
			c.done(n, err, reply.ID(id))
			c.Flush() // the store may have been asked
			return
		}
		then()
	}
	c.mu.Lock()
	name, own := c.own[id]
	c.mu.Unlock()
	if own {
		decide(store.Lock{ID: id, Name: name, Owner: c.client.Name()}, nil)
		return
	}
	c.engine.Find(id, decide)
}

// done responds to a request that has no other result than an error. About is as for
// [reply.Refuse].
func (c *conn) done(n uint64, err error, about string) {
	if err != nil {
		c.refuse(n, err, about, nil)
	} else {
		c.send(&wire.StreamMessage{Kind: wire.MessageDone, N: n})
	}
}

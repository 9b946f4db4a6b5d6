package streamapi

import (
	"time"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
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

func (c *conn) acquire(n uint64, a *wire.StreamAcquire, all bool) {
	_, mark, _ := wire.CutMark(a.Creator)
	var rank time.Time
	if a.Rank != 0 {
		rank = time.UnixMicro(a.Rank)
	}
	c.engine.Acquire(&engine.Waiter{
		Conn: c.place, Sink: c, N: n, Names: a.Names, All: all,
		New: store.NewLock{
			Creator: &a.Creator, IP: c.client.IP, TTL: a.Lease, Leased: true,
			Owner: c.client.Key, Mark: mark,
		},
		Wait: a.Wait, Progress: a.Progress, Again: a.Again, Priority: a.Priority, Waited: a.Waited,
		Rank: rank, Place: a.Place,
	})
}

func (c *conn) cancel(n uint64, mark string) {
	c.engine.Cancel(c.place, c.client.Key, mark, func(err error) {
		c.done(n, err, "mark "+mark)
	})
}

func (c *conn) renew(n uint64, id string, lease time.Duration) {
	c.engine.Renew(c.place, id, lease, func(lock store.Lock, err error) {
		if err != nil {
			c.done(n, err, reply.ID(id))
			return
		}
		c.send(&wire.StreamMessage{Kind: wire.MessageLock, N: n, Lock: reply.Lock(&lock)})
		c.Flush()
	})
}

func (c *conn) release(n uint64, id string) {
	how := store.Ending{How: store.Released, By: c.client.Key}
	c.engine.Delete(c.place, id, how, func(_ store.Lock, err error) {
		c.done(n, err, reply.ID(id))
	})
}

// done responds to a request that has no other result than an error. About is as for
// [reply.Refuse].
func (c *conn) done(n uint64, err error, about string) {
	if err != nil {
		c.refuse(n, err, about, nil)
	} else {
		c.send(&wire.StreamMessage{Kind: wire.MessageDone, N: n})
	}
	c.Flush()
}

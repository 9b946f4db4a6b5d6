package streamapi

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// conn is the connection of a client.
type conn struct {
	engine *engine.Engine
	log    *slog.Logger
	client *guard.Client
	key    *access.Key // as it was when the client connected
	place  *engine.Conn
	link   link
	outbox *outbox
	last   uint64 // number of the latest request

	mu       sync.Mutex
	message  []byte            // the latest one that was sent
	failures []failure         // to be logged
	own      map[string]string // names of locks that the client's key owns, by id

	closing  atomic.Bool // the server closes the connection
	revoked  atomic.Bool // because its key is gone
	goodbyes sync.WaitGroup
}

// heard records that the client has sent a control frame.
func (c *conn) heard() { c.engine.Heard(c.place, 0) }

// send has the message sent, in the order of the calls. It does not wait for anything.
func (c *conn) send(m *wire.StreamMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.message = wire.AppendStreamMessage(c.message[:0], m)
	c.outbox.count()
	_ = c.link.write(c.message) // fails only once the connection has ended
	if cap(c.message) > keptBuffer {
		c.message = nil
	}
}

// sayBye says that the server shuts down, and closes the connection. It must not be called after
// the connection was removed from the server.
func (c *conn) sayBye() {
	c.leave(&wire.StreamMessage{Kind: wire.MessageBye}, closeGoingAway,
		"the server is shutting down")
}

// recheck closes the connection if its key is gone: then it says so, and gives up the places. If
// the key may do other things than before, it closes it as if the server were restarted: the client
// comes again, and asks again for what it waits for. It must not be called after the connection was
// removed from the server.
func (c *conn) recheck() {
	key, _ := c.client.Key()
	switch {
	case key == nil:
		c.revoked.Store(true)
		gone := reply.Refuse(guard.ErrKeyGone, "")
		c.leave(&wire.StreamMessage{Kind: wire.MessageError,
			Err: wire.StreamError{Status: gone.Status, Message: gone.Message},
		}, closePolicy, gone.Message)
	case !sameRights(key, c.key):
		c.leave(nil, closeRestart, "the rights of this X-API-KEY have changed")
	}
}

func sameRights(a, b *access.Key) bool {
	return a == b || b != nil && a.Role == b.Role && slices.Equal(a.Patterns, b.Patterns)
}

// leave sends a last message, unless that is nil, and closes the connection in the background.
func (c *conn) leave(last *wire.StreamMessage, code int, reason string) {
	if c.closing.Swap(true) {
		return
	}
	if last != nil {
		c.send(last)
	}
	c.goodbyes.Go(func() {
		if c.revoked.Load() {
			c.engine.GiveUp(c.place)
		}
		c.link.close(code, reason)
	})
}

// maxOwn is how many locks of its client a connection knows, at most.
const maxOwn = 10_000

// owns records a lock of the client's key, so that the store need not be asked whose it is.
func (c *conn) owns(lock *store.Lock) {
	if c.client.Unlimited() || lock.Owner != c.client.Name() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil || len(c.own) >= maxOwn {
		c.own = make(map[string]string)
	}
	c.own[lock.ID] = lock.Name
}

// disowns forgets a lock that is gone.
func (c *conn) disowns(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.own, id)
}

// refuse responds with an error. The holder is that of the name, nil where it is not known.
func (c *conn) refuse(n uint64, err error, about string, holder *store.Lock) {
	r := reply.Refuse(err, about)
	if r.Level > reply.Unlogged {
		c.mu.Lock()
		c.failures = append(c.failures, failure{r.Level, r.Message, about, err})
		c.mu.Unlock()
	}
	c.send(&wire.StreamMessage{Kind: wire.MessageError, N: n, Err: wire.StreamError{
		Status: r.Status, Message: r.Message, Lock: reply.LockOrNil(holder),
	}})
}

// failure is an error that is logged by flush, where the engine's mutex is not locked.
type failure struct {
	level   slog.Level
	message string
	about   string
	err     error
}

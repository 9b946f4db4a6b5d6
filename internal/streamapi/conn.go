package streamapi

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Client is the client of a connection.
type Client struct {
	Key  string // the name of its key
	Role string // of the key
	IP   string

	// Admitted reports whether the key is still one of the server's.
	Admitted func() bool
}

// conn is the connection of a client.
type conn struct {
	engine *engine.Engine
	log    *slog.Logger
	client Client
	place  *engine.Conn
	link   link
	outbox *outbox
	last   uint64 // number of the latest request

	mu       sync.Mutex
	message  []byte    // the latest one that was sent
	failures []failure // to be logged

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

// revoke says that the key is gone, and closes the connection. It must not be called after the
// connection was removed from the server.
func (c *conn) revoke() {
	c.revoked.Store(true)
	const message = "this X-API-KEY is not valid any more"
	c.leave(&wire.StreamMessage{Kind: wire.MessageError,
		Err: wire.StreamError{Status: http.StatusUnauthorized, Message: message},
	}, closePolicy, message)
}

// leave sends a last message, and closes the connection in the background.
func (c *conn) leave(last *wire.StreamMessage, code int, reason string) {
	if c.closing.Swap(true) {
		return
	}
	c.send(last)
	c.goodbyes.Go(func() { c.link.close(code, reason) })
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

package streamapi

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// conn is the connection of a client.
type conn struct {
	server *Server
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

// violation is an error of a client after which there is nothing to be understood any more.
type violation struct {
	code   int // for the close frame
	reason string
}

func (v *violation) Error() string { return "relukko: " + v.reason }

// read handles requests until the connection ends. It returns why that is.
func (c *conn) read() error {
	for {
		frame, err := c.link.read()
		switch {
		case errors.Is(err, errBinary):
			return &violation{closeProtocol, "messages must be text, this one was binary"}
		case errors.Is(err, errTooLarge):
			return &violation{closeTooLarge, "a message may have 64 KiB"}
		case err != nil:
			return err
		}
		if err := c.handle(frame); err != nil {
			return err
		}
	}
}

// handle begins a request. It returns an error if the connection cannot go on.
func (c *conn) handle(frame []byte) error {
	req, err := wire.ParseStreamRequest(frame)
	switch {
	case req.N == 0 && err != nil:
		return &violation{closeProtocol, reason(err)}
	case req.N <= c.last:
		// An error for that number would be taken for the end of the earlier request.
		return &violation{closeProtocol,
			fmt.Sprintf("n must rise: %d came after %d", req.N, c.last)}
	}
	c.last = req.N
	c.server.engine.Heard(c.place, req.N)
	switch {
	case c.revoked.Load():
	case err != nil:
		c.refuse(req.N, err, "", nil)
	default:
		c.begin(&req)
	}
	return nil
}

// heard records that the client has sent a control frame.
func (c *conn) heard() { c.server.engine.Heard(c.place, 0) }

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

// gaveUp reports whether the client does not come back for its places after that end of the
// connection.
func (c *conn) gaveUp(end error) bool {
	return c.revoked.Load() || errors.Is(end, errLeft) && !c.closing.Load()
}

// close ends the connection, whose end was seen by the reader.
func (c *conn) close(end error) {
	if v, ok := errors.AsType[*violation](end); ok {
		c.link.close(v.code, v.reason)
	}
	c.goodbyes.Wait()
	c.link.free()
	c.outbox.writers.Wait()
}

func reason(err error) string {
	if bad, ok := errors.AsType[*wire.RequestError](err); ok {
		return bad.Message
	}
	return err.Error()
}

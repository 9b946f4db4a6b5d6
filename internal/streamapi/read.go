package streamapi

import (
	"errors"
	"fmt"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

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
	c.engine.Heard(c.place, req.N)
	switch {
	case c.revoked.Load():
	case err != nil:
		c.refuse(req.N, err, "", nil)
	default:
		c.begin(&req)
	}
	return nil
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

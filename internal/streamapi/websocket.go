package streamapi

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// The codes of a close frame (RFC 6455, 7.4).
const (
	closeGoingAway = 1001
	closeProtocol  = 1002
	closePolicy    = 1008
	closeTooLarge  = 1009
	closeRestart   = 1012

	maxReason = 123 // bytes that a close frame has for its reason
)

var (
	// errLeft means that the client has sent a close frame.
	errLeft = errors.New("relukko: the client has closed the connection")
	// errBinary means that a message was not text.
	errBinary = errors.New("relukko: a message was binary")
	// errTooLarge means that a message was larger than [wire.MaxFrame].
	errTooLarge = errors.New("relukko: a message was too large")
)

// link is a WebSocket, whatever library it comes from. The outbox that it was accepted with is
// its connection.
type link interface {
	// read returns the next message, which stays as it is until the next read. It returns errLeft
	// after a close frame, and errBinary and errTooLarge for messages that may not be.
	read() ([]byte, error)
	// write frames a message for the outbox. It does not block.
	write(message []byte) error
	// close sends a close frame, and waits for the client's, for closeTimeout at most.
	close(code int, reason string)
	// free ends the WebSocket after its connection.
	free()
}

// accept upgrades the request. Heard is called by the reader for a control frame. If it fails, it
// has written the response, in plain text.
func accept(w http.ResponseWriter, r *http.Request, heard func()) (link, *outbox, error) {
	upgrade := r.Header.Get("Upgrade") != "" // otherwise the library says that one is required
	if upgrade && !offers(r.Header["Sec-Websocket-Protocol"], wire.StreamProtocol) {
		const message = "the subprotocol must be " + wire.StreamProtocol
		http.Error(w, message, http.StatusBadRequest)
		return nil, nil, errors.New(message)
	}
	h := &hijacked{ResponseWriter: w}
	conn, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols: []string{wire.StreamProtocol},
		// Browsers cannot send X-API-KEY with a WebSocket, so no page can misuse a user's key, and
		// the origin does not matter.
		InsecureSkipVerify: true,
		OnPingReceived:     func(context.Context, []byte) bool { heard(); return true },
		OnPongReceived:     func(context.Context, []byte) { heard() },
	})
	if err != nil {
		return nil, nil, err
	}
	conn.SetReadLimit(wire.MaxFrame)
	return &coder{conn: conn, box: h.box}, h.box, nil
}

// offers reports whether the header's values name the protocol.
func offers(values []string, protocol string) bool {
	for name := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if strings.TrimSpace(name) == protocol {
			return true
		}
	}
	return false
}

// hijacked puts an outbox between the library and the network.
type hijacked struct {
	http.ResponseWriter
	box *outbox
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, both, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.box = newOutbox(conn)
	// Frames are collected by the outbox, so the writer's own buffer is small.
	return h.box, bufio.NewReadWriter(both.Reader, bufio.NewWriterSize(h.box, frameBuffer)), nil
}

const frameBuffer = 512 // bytes, for each connection

// coder is a link over github.com/coder/websocket.
type coder struct {
	conn *websocket.Conn
	box  *outbox
	in   []byte
}

func (c *coder) read() ([]byte, error) {
	// A context that can end would cost two allocations and a timer for each read. The outbox ends
	// reads.
	kind, message, err := c.conn.Reader(context.Background())
	if err != nil {
		return nil, readError(err)
	}
	if kind != websocket.MessageText {
		return nil, errBinary
	}
	if cap(c.in) > keptBuffer {
		c.in = nil
	}
	c.in, err = wire.ReadAll(message, c.in[:0])
	return c.in, readError(err)
}

func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case websocket.CloseStatus(err) != -1:
		return errLeft
	case errors.Is(err, websocket.ErrMessageTooBig):
		return errTooLarge
	}
	return err
}

func (c *coder) write(message []byte) error {
	return c.conn.Write(context.Background(), websocket.MessageText, message)
}

func (c *coder) close(code int, reason string) {
	defer time.AfterFunc(closeTimeout, c.box.cut).Stop()
	c.box.hurry()
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	_ = c.conn.Close(websocket.StatusCode(code), reason)
}

func (c *coder) free() { _ = c.conn.CloseNow() }

// Package sockets is how the stream driver opens a WebSocket of a client. Package api implements
// it: it has the client's keys, certificates and proxies, and none of its exported methods returns
// a type of this package.
package sockets

import (
	"context"
	"errors"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Of returns the sockets of a client, an *api.Client. Package api sets it.
var Of func(client any) Opener

// Opener opens the WebSockets of a client.
type Opener interface {
	// Allowed reports whether the client may open WebSockets.
	Allowed() bool

	// Dial opens the WebSocket at a path, with the client's present API key. Messages of the server
	// may have up to limit bytes. The error is an *api.Error if the server, or something on the
	// way, responded otherwise.
	Dial(ctx context.Context, path, protocol string, limit int) (Conn, error)

	// OtherKey reports whether the client has another API key than the one with which conn was
	// opened. If the key comes from a function, OtherKey asks for it.
	OtherKey(ctx context.Context, conn Conn) bool

	// Refusal returns the *api.Error for an error that the backend sent over a WebSocket. oneLock
	// says that the request was about one lock.
	Refusal(op string, oneLock bool, e *wire.StreamError) error

	// Failure returns the error for a request that got no response; notSent is what api.NoEffect
	// reports.
	Failure(op string, err error, notSent bool) error
}

// ErrMessage is wrapped by the error of [Conn.Read] for a message that is too long or not text.
var ErrMessage = errors.New("a message is too long or not text")

// ErrInterrupted is wrapped by the error of [Conn.Read] after [Conn.Interrupt]. Later reads go on.
var ErrInterrupted = errors.New("the read was interrupted")

// Conn is a WebSocket. One goroutine may read while another one writes.
type Conn interface {
	// Read returns the next message, which is valid until the next Read. After an error other than
	// [ErrInterrupted] nothing of the connection is left.
	Read() ([]byte, error)

	// Interruptible reports whether Interrupt works.
	Interruptible() bool

	// Interrupt has Read return [ErrInterrupted]: the present one, or the next one, or the one
	// after that if a message is coming, whose rest Read waits for. It does not block.
	Interrupt()

	// Write writes text messages.
	Write(messages [][]byte) error

	// Close ends the connection with a close frame, and Read with an error. It waits for up to 250
	// ms until the other side has responded.
	Close()

	// Cut ends the connection without a close frame, and Read with an error. It does not block.
	Cut()
}

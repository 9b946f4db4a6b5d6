package faultnet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// Messages is a network between a client and its server that looks into the WebSockets of one path,
// and loses connections at the messages that a test selects. The other connections just pass.
type Messages struct {
	path string

	mu    sync.Mutex
	fate  func(text []byte, fromServer bool) Fate
	conns map[*messageConn]struct{}
}

// Fate is what happens to a message and its connection.
type Fate int

const (
	lost Fate = 1 << iota
	reset
	noticed // by the server as well

	DarkUp            // from it on nothing from the client arrives; nobody notices
	DarkDown          // from it on nothing from the server arrives; nobody notices
	Pass         Fate = 0
	Dark              = DarkUp | DarkDown
	CutBefore         = lost | reset | noticed // it does not arrive, and the connection is reset
	CutAfter          = reset | noticed        // it arrives, then the connection is reset
	VanishBefore      = lost | reset           // as CutBefore, but only the client notices
	VanishAfter       = reset                  // as CutAfter, but only the client notices
)

// NewMessages returns a network for the WebSockets of this path.
func NewMessages(path string) *Messages {
	return &Messages{path: path, conns: make(map[*messageConn]struct{})}
}

// Each sets what decides on each message from now on; nil passes all. Messages of the two
// directions may be decided on at the same time.
func (m *Messages) Each(fate func(text []byte, fromServer bool) Fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fate = fate
}

// Wrap returns dial with these faults.
func (m *Messages) Wrap(
	dial func(ctx context.Context, network, address string) (net.Conn, error),
) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		inner, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &messageConn{
			Conn: inner, of: m, closed: make(chan struct{}), moved: make(chan struct{}, 1),
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.conns[c] = struct{}{}
		return c, nil
	}
}

// Close closes all connections, also those whose end the server has not noticed.
func (m *Messages) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		c.Conn.Close()
	}
	clear(m.conns)
}

func (m *Messages) decide(text []byte, fromServer bool) Fate {
	m.mu.Lock()
	fate := m.fate
	m.mu.Unlock()
	if fate == nil {
		return Pass
	}
	return fate(text, fromServer)
}

// messageConn is a client's end of a connection. One goroutine reads, and one writes.
type messageConn struct {
	net.Conn
	of     *Messages
	closed chan struct{} // by the client
	once   sync.Once

	up    []byte // what the client has written of the next frame
	down  []byte // what was read of the next frame, or of the response to the upgrade
	ready []byte // for the client

	moved chan struct{} // the deadline for reads

	mu       sync.Mutex
	readBy   time.Time // the client's deadline
	asked    bool      // for a WebSocket, and not answered
	open     bool      // it is a WebSocket
	lostUp   bool
	lostDown bool
	broken   bool // the client sees a reset
	hidden   bool // the server does not see the client's close
}

func (c *messageConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if !c.open {
		c.asked = c.asked || bytes.HasPrefix(b, []byte("GET "+c.of.path))
		c.mu.Unlock()
		return c.Conn.Write(b)
	}
	c.mu.Unlock()
	c.up = append(c.up, b...)
	for {
		size, text := frame(c.up)
		if size == 0 {
			break
		}
		c.pass(text, false, c.up[:size])
		c.up = c.up[size:]
	}
	return len(b), c.reset()
}

func (c *messageConn) Read(b []byte) (int, error) {
	part := make([]byte, 4<<10)
	for len(c.ready) == 0 {
		if err := c.reset(); err != nil {
			return 0, err
		}
		if c.split() {
			continue
		}
		n, err := c.Conn.Read(part)
		c.down = append(c.down, part[:n]...)
		switch {
		case err == nil || n > 0:
		case c.reset() != nil:
		case c.isClosed():
			return 0, net.ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case c.isLost(true):
			return 0, c.silence()
		default:
			return 0, err
		}
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// silence waits until the client closes the connection, or its deadline for reads.
func (c *messageConn) silence() error {
	for {
		c.mu.Lock()
		readBy := c.readBy
		c.mu.Unlock()
		var passed <-chan time.Time
		if !readBy.IsZero() {
			left := time.Until(readBy)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			passed = time.After(left)
		}
		select {
		case <-c.closed:
			return net.ErrClosed
		case <-c.moved:
		case <-passed:
		}
	}
}

func (c *messageConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// SetReadDeadline implements [net.Conn].
func (c *messageConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy = t
	select {
	case c.moved <- struct{}{}:
	default:
	}
	if c.broken || c.isClosed() { // reads have ended
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// reset returns the error of a connection that was reset.
func (c *messageConn) reset() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return syscall.ECONNRESET
	}
	return nil
}

// split handles the next of what was read, and reports whether there was enough of it.
func (c *messageConn) split() bool {
	c.mu.Lock()
	asked, open := c.asked, c.open
	c.mu.Unlock()
	if open {
		size, text := frame(c.down)
		c.pass(text, true, c.down[:size])
		c.down = c.down[size:]
		return size > 0
	}
	end := len(c.down)
	if asked {
		end = bytes.Index(c.down, []byte("\r\n\r\n")) + 4
		if end < 4 {
			return false
		}
		c.mu.Lock()
		c.open = bytes.HasPrefix(c.down, []byte("HTTP/1.1 101"))
		c.asked = false
		c.mu.Unlock()
	}
	c.ready = append(c.ready, c.down[:end]...)
	c.down = c.down[end:]
	return end > 0
}

// pass decides on a frame. Only text frames are messages.
func (c *messageConn) pass(text []byte, fromServer bool, frame []byte) {
	if c.isLost(fromServer) {
		return
	}
	fate := Pass
	if text != nil {
		fate = c.of.decide(text, fromServer)
	}
	c.mu.Lock()
	c.lostUp = c.lostUp || fate&DarkUp != 0
	c.lostDown = c.lostDown || fate&DarkDown != 0
	c.hidden = c.hidden || c.lostUp || fate&reset != 0 && fate&noticed == 0
	c.mu.Unlock()
	switch {
	case fate&lost != 0 || c.isLost(fromServer):
	case fromServer:
		c.ready = append(c.ready, frame...)
	default:
		c.Conn.Write(frame)
	}
	if fate&reset == 0 {
		return
	}
	c.mu.Lock()
	c.broken = true
	c.mu.Unlock()
	c.Conn.SetReadDeadline(longAgo) // the client may be reading
	if fate&noticed != 0 {
		c.Conn.Close()
	}
}

// isLost reports whether nothing arrives any more from the server, or from the client.
func (c *messageConn) isLost(fromServer bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken || fromServer && c.lostDown || !fromServer && c.lostUp
}

func (c *messageConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.mu.Lock()
	hidden := c.hidden
	c.mu.Unlock()
	if hidden {
		c.Conn.SetReadDeadline(longAgo)
		return nil
	}
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// frame returns the size of the first frame in b, 0 while there is not all of it, and its text if
// it is a message.
func frame(b []byte) (size int, text []byte) {
	if len(b) < 2 {
		return 0, nil
	}
	length, at := int(b[1]&0x7f), 2
	switch {
	case length == 126 && len(b) >= 4:
		length, at = int(binary.BigEndian.Uint16(b[2:])), 4
	case length == 127 && len(b) >= 10:
		length, at = int(binary.BigEndian.Uint64(b[2:])), 10
	case length > 125:
		return 0, nil
	}
	var mask [4]byte
	if b[1]&0x80 != 0 {
		if len(b) < at+4 {
			return 0, nil
		}
		copy(mask[:], b[at:])
		at += 4
	}
	if len(b) < at+length {
		return 0, nil
	}
	if b[0]&0x0f == 1 {
		text = make([]byte, length)
		for i, x := range b[at : at+length] {
			text[i] = x ^ mask[i%4]
		}
	}
	return at + length, text
}

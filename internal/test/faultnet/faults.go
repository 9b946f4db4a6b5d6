// Package faultnet is a network that can fail: connections of the real one or
// of one in memory, whose bytes can vanish and which can be cut.
package faultnet

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// Faults are the faults of one route to a server: of everything that comes in
// by the listeners that [Faults.Listener] has wrapped. The zero value has none.
//
// In the dark, bytes vanish in both directions and nothing closes: neither end
// can tell it from a peer that has nothing to say. A connection that has lost
// a byte, or its end, stays silent for good, also when the light is back:
// what is read is never a stream with a hole. A connection on which nothing was
// sent in the dark works on.
//
// What a server sends is lost if its Write begins in the dark. What its
// clients send is lost if it arrives in the dark, so bytes under way when the
// light changes may be on either side of it.
type Faults struct {
	mu     sync.Mutex
	dark   bool
	light  chan struct{} // non-nil while dark; closed by the end of it
	conns  map[*conn]struct{}
	closed bool
}

// SetDark darkens the route or brings the light back.
func (f *Faults) SetDark(dark bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if dark == f.dark {
		return
	}
	f.dark = dark
	if dark {
		f.light = make(chan struct{})
	} else {
		close(f.light)
		f.light = nil
	}
}

// Cut resets all connections. In the dark, and where bytes were lost, only the
// server's end notices.
func (f *Faults) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.cut()
	}
}

// Close resets all connections, dark or not, and every one that is accepted later.
func (f *Faults) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		c.in.reset()
		c.inner.Close()
	}
}

// Dial calls dial. In the dark it waits for the light first, as TCP repeats its
// SYN, or until ctx ends. A client that dials by itself connects in the dark too,
// but the listener never returns that connection.
func (f *Faults) Dial(
	ctx context.Context, dial func(context.Context) (net.Conn, error),
) (net.Conn, error) {
	f.mu.Lock()
	light := f.light
	f.mu.Unlock()
	if light != nil {
		select {
		case <-light:
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "dark", Err: ctx.Err()}
		}
	}
	return dial(ctx)
}

// Listener returns l with these faults on all that it accepts.
func (f *Faults) Listener(l net.Listener) net.Listener {
	return &listener{l, f}
}

type listener struct {
	net.Listener
	faults *Faults
}

// Accept returns the next connection that was not opened in the dark.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.faults.admit(inner); c != nil {
			return c, nil
		}
	}
}

// admit returns nil for a connection that the server must not see.
func (f *Faults) admit(inner net.Conn) *conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		inner.Close()
		return nil
	}
	c := &conn{inner: inner, faults: f, in: newStream(), lost: f.dark, gone: f.dark}
	if f.conns == nil {
		f.conns = make(map[*conn]struct{})
	}
	f.conns[c] = struct{}{}
	go c.pump()
	if c.lost {
		return nil
	}
	return c
}

// conn is a server's end of a connection.
type conn struct {
	inner  net.Conn
	faults *Faults
	in     *stream // what has arrived in the light

	// The mutex of faults guards the rest.
	lost  bool // a byte, or one of the ends, was lost: nothing gets through any more
	gone  bool // the server has closed it
	ended bool // the client has closed it, or inner is closed
}

// pump reads what arrives at the instant it arrives, so that it is lost if it
// is dark, and buffers it for the server.
func (c *conn) pump() {
	b := make([]byte, 4<<10)
	for {
		n, err := c.inner.Read(b)
		if n > 0 && !c.loses() {
			c.in.Write(b[:n]) // an error says that the server reads no more
		}
		if err == nil {
			continue
		}
		if !c.loses() {
			c.in.closeWrite(err)
		}
		c.inner.Close()
		c.faults.mu.Lock()
		c.ended = true
		c.forget()
		c.faults.mu.Unlock()
		return
	}
}

// loses reports whether what is sent now is lost, and remembers that it was.
func (c *conn) loses() bool {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.lost = c.lost || c.faults.dark
	return c.lost
}

// forget removes a connection that both ends have closed.
func (c *conn) forget() {
	if c.gone && c.ended {
		delete(c.faults.conns, c)
	}
}

// cut resets the connection. The caller has the mutex of faults.
func (c *conn) cut() {
	c.lost = c.lost || c.faults.dark
	c.in.reset()
	if c.lost {
		return
	}
	switch inner := c.inner.(type) {
	case *memoryConn:
		inner.reset()
	case *net.TCPConn:
		inner.SetLinger(0)
	}
	c.inner.Close()
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	return n, explain(c, "read", err)
}

// Write succeeds in the dark, as with a kernel that buffers.
func (c *conn) Write(b []byte) (int, error) {
	c.faults.mu.Lock()
	gone := c.gone
	c.faults.mu.Unlock()
	if gone {
		return 0, explain(c, "write", net.ErrClosed)
	}
	if c.loses() {
		return len(b), nil
	}
	return c.inner.Write(b)
}

// Close closes the server's end. In the dark, and where bytes were lost, the
// client does not notice: its end stays open until the client closes it.
func (c *conn) Close() error {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	if c.gone {
		return explain(c, "close", net.ErrClosed)
	}
	c.gone = true
	c.in.closeRead()
	c.forget()
	c.lost = c.lost || c.faults.dark
	if !c.lost {
		c.inner.Close()
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.inner.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

func (c *conn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return c.inner.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error { return c.inner.SetWriteDeadline(t) }

// Cut resets one connection that came in by a wrapped listener.
func Cut(nc net.Conn) error {
	c, ok := nc.(*conn)
	if !ok {
		return syscall.EINVAL
	}
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	c.cut()
	return nil
}

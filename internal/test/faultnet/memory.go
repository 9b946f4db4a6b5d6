package faultnet

import (
	"context"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// backlog is how many dialled connections a listener that does not accept keeps waiting.
const backlog = 1024

// A Memory is a network inside the process. Its connections behave like those
// of TCP on loopback (writes are buffered up to a bound, closing is seen by
// the other end after what was written before), and nothing in it leaves the
// testing/synctest bubble that it was made in. The zero value is ready to use.
type Memory struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
}

// Listen opens address, which may be any string; as with TCP, no two listeners
// have one address at a time.
func (m *Memory) Listen(address string) (net.Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners[address] != nil {
		return nil, &net.OpError{Op: "listen", Net: "memory", Addr: memoryAddr(address),
			Err: syscall.EADDRINUSE}
	}
	if m.listeners == nil {
		m.listeners = make(map[string]*memoryListener)
	}
	l := &memoryListener{
		network: m,
		addr:    memoryAddr(address),
		pending: make(chan *memoryConn, backlog),
		closed:  make(chan struct{}),
	}
	m.listeners[address] = l
	return l, nil
}

// DialContext connects to the listener at address. It never waits: where
// nobody listens it is refused. The network's name is ignored.
func (m *Memory) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := ctx.Err()
	if l := m.listeners[address]; err == nil && l != nil {
		client, server := newMemoryConns(memoryAddr("client of "+address), l.addr)
		select {
		case l.pending <- server:
			return client, nil
		default: // the backlog is full
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memoryAddr(address),
		Err: first(err, error(syscall.ECONNREFUSED))}
}

type memoryListener struct {
	network *Memory
	addr    memoryAddr
	pending chan *memoryConn
	closed  chan struct{} // closed under network.mu, so that nothing is added to pending after
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case c := <-l.pending:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "memory", Addr: l.addr, Err: net.ErrClosed}
}

// Close frees the address and resets the connections that nobody has accepted.
func (l *memoryListener) Close() error {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	if l.network.listeners[string(l.addr)] != l {
		return &net.OpError{Op: "close", Net: "memory", Addr: l.addr, Err: net.ErrClosed}
	}
	delete(l.network.listeners, string(l.addr))
	close(l.closed)
	for {
		select {
		case c := <-l.pending:
			c.reset()
		default:
			return nil
		}
	}
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

// memoryAddr is an address as it was given to Listen.
type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

// memoryConn is one end of a connection: what one end writes the other reads.
type memoryConn struct {
	in, out       *stream
	local, remote memoryAddr
}

func newMemoryConns(client, server memoryAddr) (c, s *memoryConn) {
	up, down := newStream(), newStream()
	return &memoryConn{in: down, out: up, local: client, remote: server},
		&memoryConn{in: up, out: down, local: server, remote: client}
}

func (c *memoryConn) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	return n, explain(c, "read", err)
}

func (c *memoryConn) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	return n, explain(c, "write", err)
}

func (c *memoryConn) Close() error {
	c.in.closeRead()
	c.out.closeWrite(io.EOF)
	return nil
}

// reset closes the connection so that both ends see it at once, unread bytes or not.
func (c *memoryConn) reset() {
	c.in.reset()
	c.out.reset()
}

func (c *memoryConn) LocalAddr() net.Addr  { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

func (c *memoryConn) SetDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	c.out.setWriteDeadline(t)
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.setReadDeadline(t)
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.setWriteDeadline(t)
	return nil
}

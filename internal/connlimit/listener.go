// Package connlimit limits the connections of a server, so that it does not run out of file
// descriptors, and keeps some for those that hold a lock: a server that is full still renews and
// releases.
package connlimit

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gitlab.com/relukko/relukko-go/internal/rawio"
)

const (
	spareTime = 10 * time.Second // for which a spare connection may be open
	spareIdle = time.Second      // until its client must have sent something
)

// Listener accepts so many connections at a time, and so many spare ones. Further ones wait for one
// of these to be closed.
type Listener struct {
	net.Listener
	max    int
	full   string
	slots  chan struct{}
	open   atomic.Int32
	once   sync.Once
	closed chan struct{}
}

// New limits the connections that l accepts. Full says in a response what is full, and what limits
// it; see [Full].
func New(l net.Listener, most, spare int, full string) *Listener {
	return &Listener{
		Listener: l, max: most, full: full,
		slots: make(chan struct{}, most+spare), closed: make(chan struct{}),
	}
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	accepted, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	c := &conn{Conn: rawio.New(accepted), listener: l}
	if int(l.open.Add(1)) > l.max {
		c.spare = time.AfterFunc(spareTime, func() { _ = c.Close() })
		c.spare.Reset(spareIdle) // now that Close finds the timer
	}
	return c, nil
}

// Close implements [net.Listener].
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	listener *Listener
	spare    *time.Timer // closes it; nil: it is not a spare one
	heard    sync.Once
	once     sync.Once
}

// Read implements [net.Conn].
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.spare != nil {
		c.heard.Do(func() { c.spare.Reset(spareTime) })
	}
	return n, err
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		if c.spare != nil {
			c.spare.Stop()
		}
		c.listener.open.Add(-1)
		<-c.listener.slots
	})
	return err
}

// CloseWrite is for net/http, which closes some connections in two steps.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SyscallConn implements [syscall.Conn], where the connection has a file descriptor.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, syscall.EINVAL
}

type key struct{}

// Context is the ConnContext of an [net/http.Server] for which a Listener accepts.
func Context(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	if c, ok := c.(*conn); ok && c.spare != nil {
		return context.WithValue(ctx, key{}, c.listener.full)
	}
	return ctx
}

// Full returns "" for a request on one of the connections of a Listener, and what is full for one
// on a spare connection. That one is for a holder to renew or to release its lock, and must be
// closed after the response.
func Full(ctx context.Context) string {
	full, _ := ctx.Value(key{}).(string)
	return full
}

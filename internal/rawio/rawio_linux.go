//go:build !race && !msan && !asan

package rawio

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// socket is what TCP connections and Unix sockets have in common.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

func wrap(plain net.Conn) net.Conn {
	switch plain.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return plain
	}
	s := plain.(socket)
	raw, err := s.SyscallConn()
	if err != nil {
		return plain
	}
	c := &conn{socket: s, raw: raw}
	c.in.call, c.out.call = c.readNow, c.writeNow
	return c
}

// conn is a socket with reads and writes of its own.
type conn struct {
	socket
	raw     syscall.RawConn
	in, out transfer
}

// transfer is the present Read or Write of a connection.
type transfer struct {
	mu   sync.Mutex
	p    []byte
	n    int // bytes done
	err  error
	call func(fd uintptr) bool // does what is possible now; false: more is to be done
}

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) { return c.do(&c.in, p, "read", c.raw.Read) }

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (int, error) { return c.do(&c.out, p, "write", c.raw.Write) }

// do passes t.call to wait, which calls it until it is done, and waits for the network in between.
func (c *conn) do(
	t *transfer, p []byte, op string, wait func(func(fd uintptr) bool) error,
) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.n, t.err = p, 0, nil
	err := wait(t.call)
	t.p = nil
	if err != nil {
		if o, ok := errors.AsType[*net.OpError](err); ok {
			o.Op = op // not "raw-read"
		}
		return t.n, err
	}
	if t.err != nil && t.err != io.EOF {
		return t.n, &net.OpError{
			Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(),
			Err: os.NewSyscallError(op, t.err),
		}
	}
	return t.n, t.err
}

func (c *conn) readNow(fd uintptr) (done bool) {
	t := &c.in
	n, err := read(fd, t.p)
	if err == syscall.EAGAIN {
		return false
	}
	if t.n, t.err = n, err; n == 0 && err == nil {
		t.err = io.EOF
	}
	return true
}

func (c *conn) writeNow(fd uintptr) (done bool) {
	t := &c.out
	for t.n < len(t.p) {
		n, err := write(fd, t.p[t.n:])
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			t.err = err
			break
		}
		t.n += n
	}
	return true
}

func read(fd uintptr, p []byte) (int, error) { return transferBytes(syscall.SYS_READ, fd, p) }

func write(fd uintptr, p []byte) (int, error) { return transferBytes(syscall.SYS_WRITE, fd, p) }

// maxBytes is what one system call transfers at most. The garbage collector may have to wait for
// it.
const maxBytes = 64 << 10

// transferBytes makes a system call that does not block, of which Go's scheduler learns nothing.
func transferBytes(call, fd uintptr, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	length := uintptr(min(len(p), maxBytes))
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&p[0])), length)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

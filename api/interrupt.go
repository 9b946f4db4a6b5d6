package api

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/sockets"
)

// interruptible is the connection below a WebSocket. A read that waits for the next message can be
// interrupted, and the next one goes on. One that waits for the rest of a message cannot: the
// WebSocket would lose what it has of that.
type interruptible struct {
	io.ReadWriteCloser
	socket net.Conn // the network; nil: its reads cannot be interrupted

	stop   atomic.Bool // the next read between two messages is interrupted
	frames frameEnds
}

// newInterruptible returns the connection over the body of a response. Socket is the network below
// it, or nil where that is not known.
func newInterruptible(body io.ReadWriteCloser, socket net.Conn) *interruptible {
	i := &interruptible{ReadWriteCloser: body}
	if socket != nil && socket.SetReadDeadline(time.Time{}) == nil {
		i.socket = socket
	}
	return i
}

// interrupt has the present or the next read return [sockets.ErrInterrupted], or the one after the
// message that is coming.
func (i *interruptible) interrupt() {
	i.stop.Store(true)
	_ = i.socket.SetReadDeadline(time.Unix(1, 0))
}

func (i *interruptible) Read(p []byte) (int, error) {
	for {
		if i.frames.between() && i.stop.Swap(false) {
			_ = i.socket.SetReadDeadline(time.Time{})
			return 0, sockets.ErrInterrupted
		}
		n, err := i.ReadWriteCloser.Read(p)
		i.frames.pass(p[:n])
		if n > 0 || i.socket == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		_ = i.socket.SetReadDeadline(time.Time{}) // for the rest of the message
	}
}

// frameEnds notes where messages end in the frames that a server sends (RFC 6455, section 5.2).
type frameEnds struct {
	header [14]byte
	have   int    // bytes of the header
	left   uint64 // bytes of the payload
	within bool   // the message goes on in another frame
}

// between reports whether no message has begun that has not ended.
func (f *frameEnds) between() bool { return f.have == 0 && f.left == 0 && !f.within }

// pass notes what has come.
func (f *frameEnds) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.header[f.have] = p[0]
		f.have++
		p = p[1:]
		if f.have >= 2 {
			f.headerMayEnd()
		}
	}
}

// headerMayEnd begins the payload if the header is complete.
func (f *frameEnds) headerMayEnd() {
	extended := 0 // bytes of the length, where it is long
	length := uint64(f.header[1] & 0x7f)
	switch length {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	size := 2 + extended
	if f.header[1]&0x80 != 0 { // masked
		size += 4
	}
	if f.have < size {
		return
	}
	if extended > 0 {
		length = 0
		for _, b := range f.header[2 : 2+extended] {
			length = length<<8 | uint64(b)
		}
	}
	if control := f.header[0]&0x08 != 0; !control { // which may come within a message
		f.within = f.header[0]&0x80 == 0
	}
	f.have, f.left = 0, length
}

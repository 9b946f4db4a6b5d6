package streamapi

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// takesNothing is a network that takes nothing without waiting. Something happens meanwhile.
type takesNothing struct {
	syscall.RawConn
	meanwhile func()
}

func (n takesNothing) Write(func(uintptr) bool) error { n.meanwhile(); return nil }

// TestTheOrderOfFrames stays as it is if a flush cannot write them all.
func TestTheOrderOfFrames(t *testing.T) {
	client, far := net.Pipe()
	defer client.Close()
	o := newOutbox(far)
	o.reading = true
	o.raw = takesNothing{meanwhile: func() { _, _ = o.Write([]byte("second")) }}
	_, err := o.Write([]byte("first, "))
	require.NoError(t, err)
	o.flush()
	got := make([]byte, len("first, second"))
	_, err = io.ReadFull(client, got)
	require.NoError(t, err)
	require.Equal(t, "first, second", string(got))
	require.NoError(t, o.Close())
	o.writers.Wait()
}

// TestFlushNeverWaits: what a client does not take is kept, and goes out in order when it does.
func TestFlushNeverWaits(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"without waiting":      func(c net.Conn) net.Conn { return c },
		"on another goroutine": func(c net.Conn) net.Conn { return struct{ net.Conn }{c} },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer client.Close()
			far, err := l.Accept()
			require.NoError(t, err)
			o := newOutbox(wrap(far))
			rests := make(chan struct{})
			o.rests = func() { close(rests) }
			read := make(chan error)
			go func() {
				_, err := o.Read(make([]byte, 1))
				read <- err
			}()
			<-rests

			const frames, size = 20_000, 1000 // more than the system buffers
			frame := bytes.Repeat([]byte{'x'}, size)
			for i := range frames {
				binary.BigEndian.PutUint32(frame, uint32(i))
				o.count()
				_, err := o.Write(frame)
				require.NoError(t, err)
				o.flush()
			}
			for i := range frames {
				_, err := io.ReadFull(client, frame)
				require.NoError(t, err)
				require.EqualValues(t, i, binary.BigEndian.Uint32(frame))
			}
			o.writers.Wait()
			o.mu.Lock()
			require.Zero(t, o.messages)
			o.mu.Unlock()
			o.cut()
			require.Error(t, <-read)
			_, err = o.Write(frame)
			require.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

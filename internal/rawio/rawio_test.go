//go:build unix

package rawio

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// networks are those whose connections New makes faster.
var networks = []string{"tcp", "unix"}

// pipe returns the two ends of a connection.
func pipe(t testing.TB, network string) (one, other net.Conn) {
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	defer l.Close()
	one, err = net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	other, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		one.Close()
		other.Close()
	})
	return one, other
}

// A connection of New does what a net.Conn must.
func TestNewIsANetConn(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				one, other := pipe(t, network)
				return New(one), New(other), func() {}, nil
			})
		})
	}
}

// Errors have the words and the types of those of package net.
func TestErrorsAreThoseOfNet(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			plain, other := pipe(t, network)
			fast := New(other)
			var errs [2][]error
			for i, conn := range []net.Conn{plain, fast} {
				require.NoError(t, conn.SetDeadline(time.Unix(1, 0)))
				_, readErr := conn.Read(make([]byte, 1))
				_, writeErr := conn.Write(make([]byte, 1))
				require.NoError(t, conn.SetDeadline(time.Time{}))
				errs[i] = append(errs[i], readErr, writeErr)
			}
			require.NoError(t, fast.(interface{ CloseWrite() error }).CloseWrite())
			require.NoError(t, plain.(interface{ CloseWrite() error }).CloseWrite())
			for i, conn := range []net.Conn{plain, fast} {
				_, readErr := conn.Read(make([]byte, 1))
				require.Equal(t, io.EOF, readErr)
				_, writeErr := conn.Write(make([]byte, 1))
				require.ErrorIs(t, writeErr, syscall.EPIPE)
				require.NoError(t, conn.Close())
				_, closedErr := conn.Read(make([]byte, 1))
				errs[i] = append(errs[i], writeErr, closedErr)
			}
			for i := range errs[0] {
				want := swapAddresses(errs[0][i], plain)
				assert.Equal(t, want, errs[1][i].Error())
				assert.IsType(t, errs[0][i], errs[1][i])
			}
		})
	}
}

// swapAddresses returns the text of an error of one end of a connection, as the other end has it.
func swapAddresses(err error, conn net.Conn) string {
	local, remote := conn.LocalAddr().String(), conn.RemoteAddr().String()
	if local == "" || remote == "" {
		return err.Error()
	}
	return strings.NewReplacer(local, remote, remote, local).Replace(err.Error())
}

// A Write that the network does not take whole goes on when it can, and ends with its deadline.
func TestALongWriteGoesOn(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			plain, other := pipe(t, network)
			fast := New(other)
			sent := make([]byte, 16<<20)
			for i := range sent {
				sent[i] = byte(i * 7)
			}
			wrote := make(chan error, 1)
			go func() {
				n, err := fast.Write(sent)
				assert.Equal(t, len(sent), n)
				wrote <- err
			}()
			got := make([]byte, len(sent))
			_, err := io.ReadFull(plain, got)
			require.NoError(t, err)
			require.NoError(t, <-wrote)
			require.Equal(t, sent, got)

			require.NoError(t, fast.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
			n, err := fast.Write(sent)
			var timeout net.Error
			require.ErrorAs(t, err, &timeout)
			require.True(t, timeout.Timeout())
			require.Positive(t, n)
			require.Less(t, n, len(sent))
		})
	}
}

// TryWrite returns immediately with what it has written.
func TestTryWriteDoesNotWait(t *testing.T) {
	plain, other := pipe(t, "tcp")
	fast := New(other)
	raw, err := fast.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	sent := make([]byte, 16<<20)
	n := TryWrite(raw, sent)
	require.Positive(t, n)
	require.Less(t, n, len(sent))
	_, err = io.ReadFull(plain, make([]byte, n))
	require.NoError(t, err)
	require.NoError(t, fast.Close())
	require.Zero(t, TryWrite(raw, sent))
}

// What is no socket stays as it is.
func TestOthersStayAsTheyAre(t *testing.T) {
	conn, other := net.Pipe()
	defer conn.Close()
	defer other.Close()
	require.Same(t, conn, New(conn))
}

// Reads and writes allocate nothing.
func TestNoAllocations(t *testing.T) {
	plain, other := pipe(t, "tcp")
	fast := New(other)
	b := make([]byte, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, err := plain.Write(b)
		require.NoError(t, err)
		_, err = io.ReadFull(fast, b)
		require.NoError(t, err)
		_, err = fast.Write(b)
		require.NoError(t, err)
		_, err = io.ReadFull(plain, b)
		require.NoError(t, err)
	}))
}

func BenchmarkRoundTrip(b *testing.B) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"net":   func(conn net.Conn) net.Conn { return struct{ net.Conn }{conn} },
		"rawio": New,
	} {
		b.Run(name, func(b *testing.B) {
			one, other := pipe(b, "tcp")
			one, other = wrap(one), wrap(other)
			go func() { _, _ = io.Copy(other, struct{ io.Reader }{other}) }()
			message := make([]byte, 200)
			for b.Loop() {
				_, err := one.Write(message)
				require.NoError(b, err)
				_, err = io.ReadFull(one, message)
				require.NoError(b, err)
			}
		})
	}
}

package faultnet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// route is a listener with faults and how to dial it.
type route struct {
	faultnet.Faults
	net.Listener
	dial func(context.Context) (net.Conn, error)
}

// pair returns the two ends of a new connection.
func (r *route) pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	client, err := r.dial(t.Context())
	require.NoError(t, err)
	server, err = r.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// onBothNetworks runs f on loopback, and in memory inside a bubble.
func onBothNetworks(t *testing.T, f func(t *testing.T, r *route)) {
	t.Run("loopback", func(t *testing.T) {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		r := &route{dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", inner.Addr().String())
		}}
		run(t, r, inner, f)
	})
	t.Run("memory", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			var memory faultnet.Memory
			inner, err := memory.Listen("there:80")
			require.NoError(t, err)
			r := &route{}
			r.dial = func(ctx context.Context) (net.Conn, error) {
				return r.Dial(ctx, func(ctx context.Context) (net.Conn, error) {
					return memory.DialContext(ctx, "tcp", "there:80")
				})
			}
			run(t, r, inner, f)
		})
	})
}

func run(t *testing.T, r *route, inner net.Listener, f func(*testing.T, *route)) {
	r.Listener = r.Faults.Listener(inner)
	t.Cleanup(func() {
		r.Listener.Close()
		r.Faults.Close()
	})
	f(t, r)
}

// silent asserts that nothing comes from c, not even its end, for a while.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := c.Read(make([]byte, 10))
	require.Zero(t, n)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Time{}))
}

func says(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	_, err := from.Write([]byte(text))
	require.NoError(t, err)
	b := make([]byte, len(text))
	_, err = io.ReadFull(to, b)
	require.NoError(t, err)
	require.Equal(t, text, string(b))
}

func TestAConnectionCarriesBytesBothWays(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, server := r.pair(t)
		says(t, client, server, "question")
		says(t, server, client, "answer")

		big := make([]byte, 3<<20) // much more than any buffer holds
		rand.Read(big)
		go func() {
			server.Write(big)
			server.Close()
		}()
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		require.True(t, bytes.Equal(big, got))
	})
}

func TestClosingIsSeenAfterWhatWasWritten(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, server := r.pair(t)
		_, err := client.Write([]byte("last words"))
		require.NoError(t, err)
		require.NoError(t, client.Close())
		got, err := io.ReadAll(server)
		require.NoError(t, err)
		require.Equal(t, "last words", string(got))

		_, err = client.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestDeadlines(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, _ := r.pair(t)
		_, server := r.pair(t)
		for _, c := range []net.Conn{client, server} {
			began := time.Now()
			require.NoError(t, c.SetDeadline(began.Add(20*time.Millisecond)))
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond)

			_, err = io.Copy(c, zeros{}) // nobody reads
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, c.SetDeadline(time.Time{}))
		}
	})
}

// A Read that waits ends when its deadline is moved into the past: net/http
// stops its background reads so.
func TestADeadlineEndsAWaitingRead(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, server := r.pair(t)
		for _, c := range []net.Conn{client, server} {
			ended := make(chan error)
			go func() {
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}()
			require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
			require.ErrorIs(t, <-ended, os.ErrDeadlineExceeded)
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestBytesSentInTheDarkAreLostForGood(t *testing.T) {
	rows := map[string]func(client, server net.Conn) (sender, receiver net.Conn){
		"from the client": func(c, s net.Conn) (net.Conn, net.Conn) { return c, s },
		"from the server": func(c, s net.Conn) (net.Conn, net.Conn) { return s, c },
	}
	for name, direction := range rows {
		t.Run(name, func(t *testing.T) {
			onBothNetworks(t, func(t *testing.T, r *route) {
				client, server := r.pair(t)
				sender, receiver := direction(client, server)
				r.SetDark(true)
				_, err := sender.Write([]byte("lost"))
				require.NoError(t, err)
				silent(t, receiver)

				r.SetDark(false)
				_, err = sender.Write([]byte("after the hole"))
				require.NoError(t, err)
				silent(t, receiver)
				_, err = receiver.Write([]byte("the other way"))
				require.NoError(t, err)
				silent(t, sender)

				sender.Close()
				silent(t, receiver)
			})
		})
	}
}

func TestAnIdleConnectionOutlivesTheDark(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, server := r.pair(t)
		r.SetDark(true)
		silent(t, client)
		silent(t, server)
		r.SetDark(false)
		says(t, client, server, "still")
		says(t, server, client, "here")
	})
}

func TestClosingInTheDarkIsNotSeen(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, server := r.pair(t)
		other, otherServer := r.pair(t)
		r.SetDark(true)
		require.NoError(t, server.Close())
		require.NoError(t, other.Close())
		silent(t, client)
		silent(t, otherServer)
		r.SetDark(false)
		silent(t, client)
		silent(t, otherServer)
	})
}

func TestDialsInTheDark(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		accepted := make(chan net.Conn)
		go func() {
			c, _ := r.Accept()
			accepted <- c
		}()

		r.SetDark(true)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		c, err := r.dial(ctx)
		if err == nil { // accepted in the dark: the client notices nothing
			defer c.Close()
			silent(t, c)
		} else {
			var failed net.Error
			require.ErrorAs(t, err, &failed)
			require.True(t, failed.Timeout(), "%v", err)
		}

		r.SetDark(false)
		client, err := r.dial(t.Context())
		require.NoError(t, err)
		defer client.Close()
		server := <-accepted
		defer server.Close()
		says(t, client, server, "light")
	})
}

func TestADialWaitsForTheLight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var memory faultnet.Memory
		var faults faultnet.Faults
		l, err := memory.Listen("there")
		require.NoError(t, err)
		defer l.Close()
		faults.SetDark(true)
		time.AfterFunc(3*time.Second, func() { faults.SetDark(false) })
		began := time.Now()
		c, err := faults.Dial(t.Context(), func(ctx context.Context) (net.Conn, error) {
			return memory.DialContext(ctx, "", "there")
		})
		require.NoError(t, err)
		defer c.Close()
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

func TestCut(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		one, oneServer := r.pair(t)
		two, twoServer := r.pair(t)
		require.NoError(t, faultnet.Cut(oneServer))
		broken(t, one)
		broken(t, oneServer)
		says(t, two, twoServer, "unharmed")

		r.Cut()
		broken(t, two)
		broken(t, twoServer)
	})
}

func broken(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestCutInTheDarkIsSeenByTheServerAlone(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, server := r.pair(t)
		r.SetDark(true)
		r.Cut()
		broken(t, server)
		silent(t, client)
		r.SetDark(false)
		silent(t, client)
	})
}

func TestCloseEndsEverything(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, r *route) {
		client, server := r.pair(t)
		r.SetDark(true)
		server.Close()
		r.Faults.Close()
		_, err := client.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestMemoryListeners(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var memory faultnet.Memory
		_, err := memory.DialContext(t.Context(), "", "there")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)

		l, err := memory.Listen("there")
		require.NoError(t, err)
		_, err = memory.Listen("there")
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		waiting, err := memory.DialContext(t.Context(), "", "there")
		require.NoError(t, err)

		require.NoError(t, l.Close())
		require.ErrorIs(t, l.Close(), net.ErrClosed)
		broken(t, waiting)
		_, err = l.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = memory.DialContext(t.Context(), "", "there")
		require.ErrorIs(t, err, syscall.ECONNREFUSED)

		l, err = memory.Listen("there") // the same address again
		require.NoError(t, err)
		require.NoError(t, l.Close())

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = memory.DialContext(ended, "", "there")
		require.ErrorIs(t, err, context.Canceled)
	})
}

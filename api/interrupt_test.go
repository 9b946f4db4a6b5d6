package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/sockets"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// Reads can be interrupted at any time. No message gets lost by that, and none comes twice.
func TestInterruptedReads(t *testing.T) {
	const messages = 300
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			text := func(i int) string { return strings.Repeat(fmt.Sprint(i, " "), 1+i%700) }
			send := func(w http.ResponseWriter, r *http.Request) {
				ws, err := websocket.Accept(w, r, nil)
				if err != nil {
					return
				}
				go ws.CloseRead(context.Background())
				for i := range messages {
					if i%10 == 0 {
						_ = ws.Ping(t.Context())
					}
					out, err := ws.Writer(t.Context(), websocket.MessageText)
					for part := range strings.SplitAfterSeq(text(i), "9") { // in many frames
						if err == nil {
							_, err = io.WriteString(out, part)
						}
					}
					if err != nil || out.Close() != nil {
						return
					}
				}
			}
			s := httptest.NewUnstartedServer(http.HandlerFunc(send))
			if secure {
				s.StartTLS()
			} else {
				s.Start()
			}
			defer s.Close()
			c, err := New(s.URL, "key", WithHTTPClient(s.Client()))
			require.NoError(t, err)
			defer c.Close()
			conn, err := sockets.Of(c).Dial(t.Context(), "/", "", 1<<20)
			require.NoError(t, err)
			defer conn.Cut()
			require.True(t, conn.Interruptible())
			var done atomic.Bool
			defer done.Store(true)
			go func() {
				for !done.Load() {
					conn.Interrupt()
				}
			}()
			interrupted := 0
			for i := 0; i < messages; {
				frame, err := conn.Read()
				if errors.Is(err, sockets.ErrInterrupted) {
					interrupted++
					continue
				}
				require.NoError(t, err)
				require.Equal(t, text(i), string(frame))
				i++
			}
			require.Positive(t, interrupted)
		})
	}
}

// interruptibleConn returns a connection, and what the server sends over it.
func interruptibleConn(t *testing.T) (*interruptible, net.Conn) {
	var network faultnet.Memory
	l, err := network.Listen("relukko.test:80")
	require.NoError(t, err)
	conn, err := network.DialContext(t.Context(), "tcp", "relukko.test:80")
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	return newInterruptible(conn, conn), server
}

// Wherever a message is cut, a read is interrupted only between two messages.
func TestInterruptedBetweenMessages(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	frames := map[string]string{
		"short":      "\x81\x02ok",
		"empty":      "\x81\x00",
		"126 bytes":  "\x81\x7e\x00\x7e" + long[:126],
		"long":       "\x81\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + long,
		"fragments":  "\x01\x02ok\x00\x01a\x80\x00",
		"with pings": "\x01\x02ok\x89\x01p\x80\x01a",
		"masked":     "\x81\x82abcdok",
	}
	for name, frame := range frames {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				i, server := interruptibleConn(t)
				buf := make([]byte, 100_000)
				for _, at := range []int{0, 1, 2, 3, 4, 5, 9, 10, len(frame) - 1} {
					if at < 0 || at >= len(frame) {
						continue
					}
					go func() { _, _ = io.WriteString(server, frame[:at]) }()
					_, err := io.ReadFull(i, buf[:at])
					require.NoError(t, err)
					i.interrupt()
					go func() {
						time.Sleep(time.Minute)
						_, _ = io.WriteString(server, frame[at:])
					}()
					began := time.Now()
					n, err := i.Read(buf)
					if at == 0 {
						require.ErrorIs(t, err, sockets.ErrInterrupted)
						require.Zero(t, time.Since(began))
						n, err = i.Read(buf)
					}
					require.NoError(t, err)
					for n < len(frame)-at {
						more, err := i.Read(buf[n:])
						require.NoError(t, err)
						n += more
					}
					require.Equal(t, frame[at:], string(buf[:n]))
					require.Equal(t, time.Minute, time.Since(began))
					if at > 0 { // now
						_, err = i.Read(buf)
						require.ErrorIs(t, err, sockets.ErrInterrupted)
					}
				}
			})
		})
	}
}

// noDeadlines is a connection that has none, like one through an SSH tunnel.
type noDeadlines struct{ net.Conn }

func (noDeadlines) SetReadDeadline(time.Time) error { return errors.New("not supported") }

// Where reads have no deadlines, or the transport is not ours, none is interrupted.
func TestNotInterruptible(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ws, err := websocket.Accept(w, r, nil); err == nil {
			_ = ws.Write(t.Context(), websocket.MessageText, []byte("hello"))
			ws.CloseRead(t.Context())
		}
	}))
	defer s.Close()
	for name, transport := range map[string]http.RoundTripper{
		"no deadlines": &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				return noDeadlines{conn}, err
			},
		},
		"another transport": struct{ http.RoundTripper }{&http.Transport{}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := New(s.URL, "key", WithHTTPClient(&http.Client{Transport: transport}))
			require.NoError(t, err)
			defer c.Close()
			conn, err := sockets.Of(c).Dial(t.Context(), "/", "", 1<<20)
			require.NoError(t, err)
			defer conn.Cut()
			require.False(t, conn.Interruptible())
			frame, err := conn.Read()
			require.NoError(t, err)
			require.Equal(t, "hello", string(frame))
		})
	}
}

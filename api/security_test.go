package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lines is a log that many write to.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What is odd in an answer costs an error and one request: no memory, no
// panic, no second try.
func TestOddAnswers(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":[`, n) + strings.Repeat(`]}`, n) }
	for name, body := range map[string]string{
		"deeply nested":              deep(50_000),
		"deeply nested, unfinished":  strings.Repeat("[", 1_000_000),
		"deeply nested in a lock":    with("creator", deep(50_000)),
		"deeply nested in its id":    with("id", deep(4_000)),
		"year 292277":                with("expires_at", `"292277-01-01T00:00:00Z"`),
		"year +292277":               with("expires_at", `"+292277-01-01T00:00:00Z"`),
		"year -1":                    with("created_at", `"-0001-01-01T00:00:00Z"`),
		"a time in seconds":          with("expires_at", `1e300`),
		"not a number":               with("expires_at", `NaN`),
		"a token of 10^400":          with("fencing_token", "1"+strings.Repeat("0", 400)),
		"a token below 0":            with("fencing_token", "-1"),
		"a name of a megabyte":       with("lock_name", `"`+strings.Repeat("x", 1<<20)+`"`),
		"UTF-16":                     "\xff\xfe{\x00}\x00",
		"two locks, one after other": testLock + testLock,
		"nothing but NUL":            strings.Repeat("\x00", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				answer(200, body)(w, r)
			}))
			before := allocated()
			_, err := c.Get(t.Context(), testID)
			e, ok := errors.AsType[*Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, 200, e.Status)
			require.Less(t, len(err.Error()), 1000)
			_, err = c.List(t.Context())
			require.Error(t, err)
			require.Less(t, allocated()-before, uint64(32<<20))
			require.EqualValues(t, 2, asked.Load())
		})
	}
}

// A lock may last for as long as a time can be written, from year 0 on.
func TestLeasesWithoutEnd(t *testing.T) {
	for from, to := range map[string]string{
		"0000-01-01T00:00:00Z":           "9999-12-31T23:59:59.999999999Z",
		"0000-01-01T00:00:00+23:59":      "9999-12-31T23:59:59-23:59",
		"2024-10-31T20:04:43.9313+00:00": "9999-12-31T23:59:59Z",
	} {
		body := strings.NewReplacer("2024-10-31T20:14:43.9313Z", to, "2024-10-31T20:04:43.9313Z",
			from).Replace(testLock)
		l, err := client(t, serve(t, answer(200, body))).Get(t.Context(), testID)
		require.NoError(t, err)
		require.Positive(t, l.ExpiresAt.Sub(l.CreatedAt))
	}
	body := strings.Replace(testLock, "2024-10-31T20:14:43.9313Z", "2024-10-31T20:04:43.9312Z", 1)
	_, err := client(t, serve(t, answer(201, body))).Create(t.Context(), testName, "")
	require.ErrorContains(t, err, "expires before it was created")
}

// A backend that asks to be left alone for ever is, for as long as the call may take.
func TestRetryAfterForEver(t *testing.T) {
	for _, after := range []string{"1000000000000000000", "9223372036854775807", strings.Repeat("9",
		400), "Fri, 31 Dec 9999 23:59:59 GMT"} {
		var asked atomic.Int32
		c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			answer(503, "", "Retry-After", after)(w, r)
		}))
		_, err := c.Get(t.Context(), testID)
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok, "%v", err)
		require.Greater(t, e.RetryAfter, 200*365*24*time.Hour)
		require.EqualValues(t, 1, asked.Load())
	}
}

// Whatever comes in the place of a WebSocket, or over one, is given up after a
// while and tried again at a gentle pace.
func TestHostileHandshakes(t *testing.T) {
	forever := func(first, rest string) func(net.Conn, string) {
		return func(conn net.Conn, accept string) {
			_, err := io.WriteString(conn, strings.ReplaceAll(first, "ACCEPT", accept))
			rest := strings.Repeat(rest, 1+8000/len(rest))
			for err == nil {
				_, err = io.WriteString(conn, rest)
			}
		}
	}
	const upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n"
	const deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
	for name, f := range map[string]func(net.Conn, string){
		"endless headers": forever(upgraded, "A: a\r\n"),
		"endless 404":     forever("HTTP/1.1 404 Not Found\r\n\r\n", "no"),
		"endless 200":     forever("HTTP/1.1 200 OK\r\n\r\n", "yes"),
		"a wrong accept": forever(strings.Replace(upgraded, "ACCEPT", "YWJj", 1)+"\r\n",
			"\x81\x00"),
		"compression":           forever(upgraded+deflate, "\xc1\x01a"),
		"garbage":               forever(upgraded+"\r\n", "\xde\xad\xbe\xef"),
		"binary":                forever(upgraded+"\r\n", "\x82\x10{\"deleted\":true}"),
		"pings":                 forever(upgraded+"\r\n", "\x89\x04ping"),
		"pongs":                 forever(upgraded+"\r\n", "\x8a\x04pong"),
		"a message without end": forever(upgraded+"\r\n\x01\x00", "\x00\x00"),
		"closes":                forever(upgraded+"\r\n", "\x88\x02\x03\xe8"),
		"a close that says 1":   forever(upgraded+"\r\n", "\x88\x02\x00\x01"),
		"nothing":               forever(upgraded+"\r\n\x81\x7e\x00\x10", "\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var handshakes atomic.Int32
			c := client(t, raw(t, func(conn net.Conn) {
				req, err := readRequest(conn)
				if err != nil {
					return
				}
				handshakes.Add(1)
				go io.Copy(io.Discard, conn)
				f(conn, acceptKey(req.Header.Get("Sec-WebSocket-Key")))
			}))
			w := watch(t, c)
			stop := time.NewTimer(700 * time.Millisecond)
			defer stop.Stop()
			for events := 0; ; events++ {
				select {
				case <-w.Events():
					continue
				case <-stop.C:
				}
				break
			}
			begin := time.Now()
			w.Close()
			require.Less(t, time.Since(begin), 4*time.Second)
			require.Positive(t, handshakes.Load())
			require.Less(t, int(handshakes.Load()), 8, "100 ms, 200 ms, … apart")
		})
	}
}

// No goroutine shows the key, with requests, retries and a WebSocket under way.
func TestTheKeyIsInNoGoroutineDump(t *testing.T) {
	log := new(lines)
	asked := make(chan struct{}, 10)
	release := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, testKey, r.Header.Get("X-Api-Key"))
		asked <- struct{}{}
		<-release
		answer(503, testKey)(w, r)
	})
	defer close(release)
	c, err := New(url, testKey,
		WithLogger(slog.New(slog.NewTextHandler(log,
			&slog.HandlerOptions{Level: slog.LevelDebug}))))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		require.NoError(t, c.Shutdown(context.Background()))
		require.NotContains(t, log.String(), testKey)
	}()
	wg.Go(func() { c.Get(ctx, testID) })
	wg.Go(func() { c.Create(ctx, testName, "") })
	w, err := c.Watch(ctx)
	require.NoError(t, err)
	defer w.Close()
	for range 3 {
		<-asked
	}
	dump := make([]byte, 4<<20)
	dump = dump[:runtime.Stack(dump, true)]
	require.Contains(t, string(dump), "api.(*Client).attempt")
	require.NotContains(t, string(dump), testKey)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", w, w, w), testKey)
}

// A redirect's target sees nothing of us, whatever the status and the request.
func TestNoRedirectTellsTheKey(t *testing.T) {
	var told atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { told.Add(1) })
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		for _, to := range []string{other + "/v1/locks/", strings.Replace(other, "http", "ws", 1) +
			"/ws/broadcast", "//" + strings.TrimPrefix(other, "http://") + "/"} {
			here := serve(t, answer(status, "", "Location", to, "Refresh", "0; url="+other))
			c := client(t, here)
			for _, call := range []func() error{
				func() error { _, err := c.Create(t.Context(), testName, ""); return err },
				func() error { _, err := c.Get(t.Context(), testID); return err },
				func() error { _, err := c.Delete(t.Context(), testID); return err },
				func() error { _, err := c.KeepAlive(t.Context(), testID, 0); return err },
				func() error { return c.Health(t.Context()) },
			} {
				e, ok := errors.AsType[*Error](call())
				require.True(t, ok)
				require.Equal(t, status, e.Status)
			}
			w := watch(t, c)
			require.Equal(t, disconnected, <-w.Events())
			w.Close()
		}
	}
	require.Zero(t, told.Load())
}

package api

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A backend that means harm costs an error: neither memory nor a hang.
func TestHostileAnswers(t *testing.T) {
	forever := func(first, rest string) func(t *testing.T) string {
		rest = strings.Repeat(rest, 1+8000/len(rest))
		return func(t *testing.T) string {
			return raw(t, func(conn net.Conn) {
				if _, err := readRequest(conn); err != nil {
					return
				}
				_, err := io.WriteString(conn, first)
				for err == nil {
					_, err = io.WriteString(conn, rest)
				}
			})
		}
	}
	chunk := "1000\r\n" + strings.Repeat("[", 0x1000) + "\r\n"
	tests := []struct {
		name string
		url  func(t *testing.T) string
		says string
	}{
		{"endless header line", forever("HTTP/1.1 200 OK\r\nA: ", "aaaa"), "exceeded"},
		{"endless headers", forever("HTTP/1.1 200 OK\r\n", "A: a\r\n"), "exceeded"},
		{"endless status line", forever("HTTP/1.1 200 ", "OK"), "exceeded"},
		{"endless early answers", forever("", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"), ""},
		{"endless body", forever("HTTP/1.1 200 OK\r\n\r\n", testLock), "too long"},
		{"endless chunks", forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk),
			"too long"},
		{"endless space", forever("HTTP/1.1 200 OK\r\n\r\n", "    "), "too long"},
		{"endless error", forever("HTTP/1.1 418 Tea\r\n\r\n", "tea"), "418"},
		{"endless 404", forever("HTTP/1.1 404 Not Found\r\n\r\n", goneBody), "404"},
		{"an announced petabyte",
			forever("HTTP/1.1 200 OK\r\nContent-Length: 1125899906842624\r\n\r\n", "{"),
			"too long"},
		{"endless trailers", forever(
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n0\r\n", "A: a\r\n"),
			""},
		{"endless chunk extension",
			forever("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "aaaa"), ""},
		{"40 MB", forever("HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n", " "), "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, tt.url(t))
			before := allocated()
			begin := time.Now()
			_, err := c.AddToExpiry(t.Context(), testID, 0)
			require.ErrorContains(t, err, tt.says)
			require.False(t, errors.Is(err, ErrGone))
			require.Less(t, len(err.Error()), 1000)
			require.Less(t, time.Since(begin), attemptTime+time.Second)
			require.Less(t, allocated()-before, uint64(32<<20))
		})
	}
}

// A given transport may unpack answers: what is bounded is what comes out.
func TestPackedAnswers(t *testing.T) {
	var packed bytes.Buffer
	out := gzip.NewWriter(&packed)
	for range 64 {
		out.Write(make([]byte, 1<<20))
	}
	out.Close()
	url := serve(t, answer(200, packed.String(), "Content-Encoding", "gzip"))
	_, err := client(t, url).Get(t.Context(), testID)
	require.ErrorContains(t, err, "not JSON", "our own asks for nothing packed")
	transport := &http.Transport{DisableKeepAlives: true}
	c := client(t, url, WithHTTPClient(&http.Client{Transport: transport}))
	before := allocated()
	_, err = c.Get(t.Context(), testID)
	require.ErrorContains(t, err, "too long")
	require.Less(t, allocated()-before, uint64(32<<20))
}

// allocated is how many bytes this process allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestLargeLists(t *testing.T) {
	long := with("creator", `"`+strings.Repeat("a long story ", 1000)+`"`)
	lock := long + ",\n"
	n := maxListAnswer/len(lock) - 1
	var size int
	c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		out := bufio.NewWriterSize(w, 64<<10)
		defer out.Flush()
		out.WriteString("[")
		for range size {
			out.WriteString(lock)
		}
		out.WriteString(long + "]")
	}))
	size = n - 1
	locks, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, locks, n)

	size = n + 1
	_, err = c.List(t.Context())
	require.ErrorContains(t, err, "list locks: 200 OK: the answer is too long")
}

// An answer that is cut at any byte is an error, and a create or delete that
// was cut is never taken for one that was not sent.
func TestAnswersCutAtEachByte(t *testing.T) {
	whole := "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n" +
		"Relukko-Wait: 30\r\nContent-Length: " + fmt.Sprint(len(testLock)) + "\r\n\r\n" + testLock
	chunked := fmt.Sprintf(
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
		len(testLock), testLock)
	conflict := fmt.Sprintf("HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s", len(goneBody),
		goneBody)
	for _, full := range []string{whole, chunked, conflict} {
		var cut int
		c := client(t, raw(t, func(conn net.Conn) {
			if _, err := readRequest(conn); err == nil {
				io.WriteString(conn, full[:cut])
			}
		}))
		for cut = range len(full) {
			k := &call{verb: "delete lock", kind: isLock, method: http.MethodDelete, id: testID}
			err := c.attempt(t.Context(), k, new(attempt))
			require.Error(t, err, "%q", full[:cut])
			require.NotErrorIs(t, err, ErrGone)
			require.False(t, NoEffect(err), "%q: %v", full[:cut], err)
			require.True(t, Transient(err), "%q: %v", full[:cut], err)
		}
	}
}

// A frame that announces a gigabyte is refused when it has sent a megabyte.
func TestHostileFrames(t *testing.T) {
	var mu sync.Mutex
	handshakes := 0
	upgrade := func(conn net.Conn) error {
		req, err := readRequest(conn)
		if err != nil {
			return err
		}
		mu.Lock()
		handshakes++
		mu.Unlock()
		_, err = fmt.Fprintf(conn,
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
				"Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			acceptKey(req.Header.Get("Sec-WebSocket-Key")))
		return err
	}
	for name, frame := range map[string]string{
		"a gigabyte":         "\x81\x7f\x00\x00\x00\x00\x40\x00\x00\x00",
		"nine exabytes":      "\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
		"less than nothing":  "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
		"a control gigabyte": "\x89\x7f\x00\x00\x00\x00\x40\x00\x00\x00",
		"an odd opcode":      "\x83\x00",
		"compressed":         "\xc1\x05hello",
		"masked":             "\x81\x85abcdhello",
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, raw(t, func(conn net.Conn) {
				if upgrade(conn) != nil {
					return
				}
				_, err := io.WriteString(conn, frame)
				piece := strings.Repeat("x", 64<<10)
				for err == nil {
					_, err = io.WriteString(conn, piece)
				}
			}))
			before := allocated()
			w := watch(t, c)
			require.Equal(t, connected, <-w.Events())
			require.Equal(t, disconnected, <-w.Events())
			w.Close()
			require.Less(t, allocated()-before, uint64(32<<20))
		})
	}
	t.Run("endless messages", func(t *testing.T) {
		c := client(t, raw(t, func(conn net.Conn) {
			if upgrade(conn) != nil {
				return
			}
			message := `{"deleted":true}`
			frames := "\x81" + string(rune(len(message))) + message + "\x89\x00\x01\x00\x80\x00"
			piece := strings.Repeat(frames, 100)
			var err error
			for err == nil {
				_, err = io.WriteString(conn, piece)
			}
		}))
		w := watch(t, c)
		require.Equal(t, connected, <-w.Events())
		for n := 0; n < 100_000 && <-w.Events() != connected; n++ { // or the flood has overtaken us
		}
		w.Close()
	})
}

// acceptKey is the answer to a Sec-WebSocket-Key, by RFC 6455.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Calls cancelled at any moment come back at once and leave nothing behind.
func TestCancelledAtAnyMoment(t *testing.T) {
	c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		out := w.(http.Flusher)
		for _, piece := range strings.SplitAfter(testLock, ",") {
			out.Flush()
			io.WriteString(w, piece)
			runtime.Gosched()
		}
	}))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 250 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Duration(rand.IntN(500))*time.Microsecond, cancel)
				var err error
				if rand.IntN(2) == 0 {
					_, err = c.Create(ctx, testName, "")
				} else {
					_, err = c.Delete(ctx, testID)
				}
				if err != nil {
					require.ErrorIs(t, err, context.Canceled)
				}
				cancel()
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				w, err := c.Watch(ctx)
				require.NoError(t, err)
				time.AfterFunc(time.Duration(rand.IntN(1000))*time.Microsecond, cancel)
				if rand.IntN(2) == 0 {
					for range w.Events() {
					}
				}
				w.Close()
			}
		})
	}
	wg.Wait()
}

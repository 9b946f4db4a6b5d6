package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answering is a transport whose connections say the same to every request,
// and then end.
func answering(raw func(req *http.Request) string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				req, err := readRequest(theirs)
				if err == nil {
					go io.Copy(io.Discard, theirs)
					io.WriteString(theirs, raw(req))
				}
			}()
			return ours, nil
		},
	}
}

// Whatever bytes come for an answer, a call ends soon, with a lock that is one
// or with a short error that does not tell the key, within bounds of memory.
func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\n\r\n" + testLock)
	f.Add("HTTP/1.1 404 Not Found\r\nContent-Length: 39\r\n\r\n" + goneBody)
	f.Add("HTTP/1.1 503 x\r\nRetry-After: 1\r\nTransfer-Encoding: chunked\r\n" +
		"\r\n3\r\nabc\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 307 x\r\nLocation: http://x:y@" + testKey + "/\r\n\r\n")
	f.Add("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + testKey)
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 x\r\nRelukko-Wait: 99999\r\n\r\n" +
		`{"status":409,"message":"` + testKey + `","lock":` + testLock + `}`)
	f.Add("HTTP/1.0 200 OK\r\nContent-Length: 999999999999\r\n\r\n{")
	f.Add(testKey + " " + testKey + "\r\n")
	var said string
	transport := answering(func(*http.Request) string { return said })
	c, err := New("http://ci:hunter2-and-more@backend", testKey,
		WithHTTPClient(&http.Client{Transport: transport, Timeout: time.Second}), WithoutWatch())
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, c.Shutdown(context.Background())) })
	f.Fuzz(func(t *testing.T, raw string) {
		said = raw
		before := allocated()
		for _, k := range []*call{
			{verb: "get lock", kind: isLock, method: http.MethodGet, id: testID},
			{verb: "create lock", kind: isCreate, method: http.MethodPost, name: testName,
				body: []byte("{}")},
			{verb: "list locks", kind: isList, method: http.MethodGet},
		} {
			err := c.attempt(t.Context(), k, new(attempt))
			if err == nil {
				for _, l := range append(k.list, k.lock) {
					require.True(t, k.kind == isList || l.ID != "" && l.Name != "")
				}
				continue
			}
			require.Less(t, len(err.Error()), 1000)
			require.NotContains(t, err.Error(), testKey)
			require.NotContains(t, err.Error(), "hunter2-and-more")
			require.False(t, strings.ContainsAny(err.Error(), "\r\n\x1b\x00"))
			require.False(t, NoEffect(err) && Transient(err) && !strings.Contains(raw, "429"), "%v",
				err)
		}
		require.LessOrEqual(t, c.MaxWait(), maxWait)
		require.Less(t, allocated()-before, uint64(8<<20+20*len(raw)))
	})
}

// Whatever bytes come over a WebSocket, its Watch goes on, and gets events only
// while it is connected.
func FuzzFrames(f *testing.F) {
	for _, s := range []string{
		"\x81\x10{\"deleted\":true}", "\x89\x00\x8a\x00", "\x88\x02\x03\xe8", "\x82\x02{}",
		"\x01\x01{\x00\x00\x80\x01}", "\xc1\x05hello",
		"\x81\x7f\x00\x00\x00\x00\x40\x00\x00\x00", "\x81\x7e\x00\x10{\"deleted\":true}",
		"\x81\x85abcdhello", "\x83\x00", "\x88\x01\x00", "\x80\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, frames string) {
		transport := answering(func(req *http.Request) string {
			return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
				"Upgrade: websocket\r\nSec-WebSocket-Accept: " +
				acceptKey(req.Header.Get("Sec-WebSocket-Key")) + "\r\n\r\n" + frames
		})
		before := allocated()
		c, err := New("http://backend", testKey, WithHTTPClient(&http.Client{Transport: transport}))
		require.NoError(t, err)
		w, err := c.Watch(t.Context())
		require.NoError(t, err)
		require.Equal(t, connected, <-w.Events())
		for e := range w.Events() {
			if e == disconnected {
				break
			}
			require.Contains(t, []EventKind{EventConnected, EventCreated, EventUpdated,
				EventDeleted, EventOther}, e.Kind)
		}
		require.NoError(t, c.Shutdown(context.Background()))
		require.Less(t, allocated()-before, uint64(8<<20+1000*len(frames)))
	})
}

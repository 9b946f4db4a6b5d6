//go:build unix

package proxies

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/unixsock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// stream is a connection whose messages the test writes by itself.
type stream struct {
	t    testing.TB
	conn *websocket.Conn
	n    int
}

// dial opens a stream, or returns the status that refuses it.
func dial(t testing.TB, url string, client *http.Client) (s *stream, status int) {
	t.Helper()
	conn, resp, err := websocket.Dial(t.Context(), url+"/v1/stream", &websocket.DialOptions{
		HTTPClient:   client,
		HTTPHeader:   http.Header{wire.HeaderAPIKey: {key}},
		Subprotocols: []string{wire.StreamProtocol},
	})
	require.NotNil(t, resp, "%v", err)
	if err != nil {
		return nil, resp.StatusCode
	}
	t.Cleanup(func() { conn.CloseNow() })
	s = &stream{t: t, conn: conn}
	require.Contains(t, s.read(), "hello")
	return s, 0
}

func (s *stream) read() map[string]any {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	_, message, err := s.conn.Read(ctx)
	require.NoError(s.t, err)
	var fields map[string]any
	require.NoError(s.t, json.Unmarshal(message, &fields))
	return fields
}

// send sends a request, which lacks its number.
func (s *stream) send(request string) {
	s.t.Helper()
	s.n++
	message := fmt.Sprintf(`{"n":%d,%s}`, s.n, request)
	require.NoError(s.t, s.conn.Write(s.t.Context(), websocket.MessageText, []byte(message)))
}

// acquire sends an acquire that waits, with a mark that ends with the letter.
func (s *stream) acquire(letter string) {
	s.t.Helper()
	s.send(`"acquire":{"lock_names":["arm"],"creator":"ada #aaaaaaaaaaa` + letter +
		`","lease":60,"wait":true}`)
}

// granted reads the end of an acquire and returns the lock's id.
func (s *stream) granted() string {
	s.t.Helper()
	lock, ok := s.read()["lock"].(map[string]any)
	require.True(s.t, ok, "not granted")
	return lock["id"].(string)
}

// work has one client hold a lock, and another wait for it; both are alive for that long.
func work(t testing.TB, holder, waiter *stream, d time.Duration) {
	t.Helper()
	holder.acquire("a")
	id := holder.granted()
	waiter.acquire("b")
	const pause = 20 * time.Second // the longest between two pings of a client
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(min(pause, time.Until(end))) {
		for _, s := range []*stream{holder, waiter} {
			s.send(`"ping":true`)
			for m := s.read(); m["pong"] != true; m = s.read() {
				require.Contains(t, m, "wanted")
			}
		}
	}
	holder.send(fmt.Sprintf(`"release":%q`, id))
	id = waiter.granted()
	waiter.send(fmt.Sprintf(`"release":%q`, id))
	require.Equal(t, true, waiter.read()["done"])
}

// A stream passes the recommended configuration. The other one gets a status that says that there
// is no stream, not one of an outage.
func TestStream(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *proxy, push bool) {
		holder, status := dial(t, p.url, nil)
		if !push {
			require.Contains(t, []int{400, 404, 405, 426, 501}, status)
			return
		}
		waiter, _ := dial(t, p.url, nil)
		d := time.Second
		if *long {
			d = readTimeout + 5*time.Second
		}
		work(t, holder, waiter, d)
	})
}

// The same on a Unix socket, without nginx.
func TestStreamOnASocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder, "stream.sock")
	serveOn(t, "unix:"+path)
	transport := &http.Transport{DialContext: unixsock.Dialer(path)}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	holder, _ := dial(t, "http://localhost", client)
	waiter, _ := dial(t, "http://localhost", client)
	work(t, holder, waiter, time.Second)
}

package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const apiKey = "the key of the tests"

// backend is a server on an in-memory network, so that it runs inside a synctest bubble, and a
// client for it.
type backend struct {
	t    *testing.T
	srv  *server.Server
	st   store.Store
	net  *pipes
	http *http.Server
	tr   *http.Transport
}

// twoSteps is a store that cannot hand over in one step.
type twoSteps struct{ store.Store }

func (twoSteps) HandOver(context.Context, string, store.Ending, store.NewLock) (
	store.Handover, error) {
	return store.Handover{}, errors.New("no hand-over")
}

// start runs a server on a memory store.
func start(t *testing.T, opts ...server.Option) *backend {
	return startOn(t, memstore.New(), opts...)
}

func startOn(t *testing.T, st store.Store, opts ...server.Option) *backend {
	return startIn(t, &http.Server{}, st, opts...)
}

func startIn(t *testing.T, web *http.Server, st store.Store, opts ...server.Option) *backend {
	b := &backend{t: t, st: st, net: newPipes(), http: web}
	b.srv = server.New(st, append([]server.Option{server.WithAPIKeys(apiKey)}, opts...)...)
	web.Handler = b.srv
	b.tr = &http.Transport{DialContext: b.net.dial}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = b.http.Serve(b.net)
	}()
	t.Cleanup(func() {
		b.tr.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, b.srv.Shutdown(ctx))
		require.NoError(t, b.http.Close())
		<-served
	})
	return b
}

// reply is an answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // no answer
}

// lock is a lock as it comes over the wire.
type lock struct {
	ID           string    `json:"id"`
	Name         string    `json:"lock_name"`
	Creator      *string   `json:"creator"`
	IP           string    `json:"ip"`
	ExpiresAt    time.Time `json:"expires_at"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	FencingToken *uint64   `json:"fencing_token"`
	Waiters      *int      `json:"waiters"`
}

func (r reply) lock(t *testing.T) (l lock) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(r.body), &l), r.body)
	return l
}

// send makes a request with the API key; headers come in pairs.
func (b *backend) send(ctx context.Context, method, path, body string, headers ...string) reply {
	req, err := http.NewRequestWithContext(
		ctx, method, "http://relukko.test"+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("X-API-KEY", apiKey)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.tr.RoundTrip(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(data), err}
}

// do sends and expects that status.
func (b *backend) do(status int, method, path, body string, headers ...string) reply {
	b.t.Helper()
	r := b.send(b.t.Context(), method, path, body, headers...)
	require.NoError(b.t, r.err)
	require.Equal(b.t, status, r.status, "%s %s: %s", method, path, r.body)
	return r
}

func createBody(name, creator string) string {
	if creator == "" {
		return fmt.Sprintf(`{"lock_name":%q,"creator":null}`, name)
	}
	return fmt.Sprintf(`{"lock_name":%q,"creator":%q}`, name, creator)
}

func (b *backend) create(name, creator string) lock {
	b.t.Helper()
	return b.do(201, "POST", "/v1/locks/", createBody(name, creator)).lock(b.t)
}

func (b *backend) delete(id string) { b.t.Helper(); b.do(200, "DELETE", "/v1/locks/"+id, "") }

// waiting is a create that queues.
type waiting struct {
	cancel context.CancelFunc
	reply  chan reply
}

// wait queues a create for up to seconds.
func (b *backend) wait(name, creator string, seconds int) *waiting {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.t.Cleanup(cancel)
	w := &waiting{cancel: cancel, reply: make(chan reply, 1)}
	go func() {
		w.reply <- b.send(ctx, "POST", "/v1/locks/", createBody(name, creator), "Prefer",
			fmt.Sprintf("wait=%d", seconds))
	}()
	return w
}

func (w *waiting) pending() bool { return len(w.reply) == 0 }

// granted expects that the lock was granted from the queue by now.
func (w *waiting) granted(t *testing.T) lock {
	t.Helper()
	require.Len(t, w.reply, 1, "no answer yet")
	r := <-w.reply
	require.NoError(t, r.err)
	require.Equal(t, 201, r.status, r.body)
	require.Equal(t, "wait", r.header.Get("Preference-Applied"))
	return r.lock(t)
}

// stream opens a stream, and reads its hello.
func (b *backend) stream() *websocket.Conn {
	b.t.Helper()
	conn, _, err := websocket.Dial(b.t.Context(), "http://relukko.test/v1/stream",
		&websocket.DialOptions{
			HTTPClient: &http.Client{Transport: b.tr}, Subprotocols: []string{"relukko.stream.v1"},
			HTTPHeader: http.Header{"X-Api-Key": {apiKey}},
		})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { conn.CloseNow() })
	require.Equal(b.t, `{"hello":{"key":"default","role":"admin","features":["all"]}}`,
		next(b.t, conn))
	return conn
}

// next returns the next message of a stream.
func next(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	_, message, err := conn.Read(context.Background())
	require.NoError(t, err)
	return string(message)
}

// cancel cancels a mark, over a stream.
func (b *backend) cancel(mark string) {
	b.t.Helper()
	conn := b.stream()
	defer conn.CloseNow()
	require.NoError(b.t, conn.Write(
		b.t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"n":1,"cancel":%q}`, mark)))
	require.Equal(b.t, `{"n":1,"done":true}`, next(b.t, conn))
}

// watcher collects broadcasts.
type watcher struct {
	conn *websocket.Conn
	mu   sync.Mutex
	got  []string
	end  chan error
}

func (b *backend) dialWatch() *websocket.Conn {
	b.t.Helper()
	conn, resp, err := websocket.Dial(
		b.t.Context(), "http://relukko.test/ws/broadcast", &websocket.DialOptions{
			HTTPClient: &http.Client{Transport: b.tr},
			HTTPHeader: http.Header{"X-Api-Key": {apiKey}, "Origin": {"https://elsewhere.example"}},
		})
	require.NoError(b.t, err)
	require.Equal(b.t, 101, resp.StatusCode)
	return conn
}

func (b *backend) watch() *watcher {
	b.t.Helper()
	return b.collect(b.dialWatch())
}

func (b *backend) collect(conn *websocket.Conn) *watcher {
	w := &watcher{conn: conn, end: make(chan error, 1)}
	go func() {
		for {
			typ, message, err := w.conn.Read(context.Background())
			if err != nil {
				w.end <- err
				return
			}
			w.mu.Lock()
			w.got = append(w.got, fmt.Sprint(typ, " ", string(message)))
			w.mu.Unlock()
		}
	}()
	b.t.Cleanup(func() { w.conn.CloseNow() })
	return w
}

// take answers what came since the last take.
func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// pipes is an in-memory network: each dial makes a net.Pipe, whose other end is accepted.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- addressed{far}:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return address{} }

type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return address{} }

type address struct{}

func (address) Network() string { return "pipe" }
func (address) String() string  { return "192.0.2.7:49152" }

// raw sends a request byte by byte on a connection of its own and answers the connection.
func (b *backend) raw(request string) (net.Conn, *bufio.Reader) {
	b.t.Helper()
	conn, err := b.net.dial(b.t.Context(), "", "")
	require.NoError(b.t, err)
	b.t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	require.NoError(b.t, err)
	return conn, bufio.NewReader(conn)
}

package streamapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/streamapi"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend serves streams on a network in memory, so that it runs inside a synctest bubble.
type backend struct {
	t       testing.TB
	engine  *engine.Engine
	streams *streamapi.Server
	conns   chan net.Conn
	guard   *guard.Guard
	mu      sync.Mutex
	keys    map[string]bool // by name: whether the guard has it
	flushed atomic.Int32
}

// start runs a backend, which ends with the test.
func start(t testing.TB, st store.Store) *backend {
	b := &backend{t: t, conns: make(chan net.Conn), keys: make(map[string]bool)}
	b.guard = guard.New(nil, guard.Limits{}, slog.New(slog.DiscardHandler), nil)
	ctx, stop := context.WithCancel(context.Background())
	b.engine = engine.New(ctx, st, engine.Config{
		Grace: 3 * time.Minute, MaxWaiters: 20_000, Log: slog.New(slog.DiscardHandler),
		NewID: wire.NewID, Publish: func(store.Event) {}, Flush: func() {},
	})
	b.streams = streamapi.New(b.engine, slog.New(slog.DiscardHandler),
		func() { b.flushed.Add(1) })
	var handlers sync.WaitGroup
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		b.streams.Serve(w, r, b.admit(r.Header.Get("X-API-KEY")))
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(listener{b.conns, ctx})
	}()
	t.Cleanup(func() {
		b.engine.Bye()
		b.streams.Bye()
		stop()
		handlers.Wait()
		b.engine.Wait()
		require.NoError(t, web.Close())
		<-served
	})
	return b
}

// admit admits a client with an admin's key of that name.
func (b *backend) admit(name string) *guard.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	there, known := b.keys[name]
	b.keys[name] = true
	b.setKeys()
	c, err := b.guard.Admit(name, guard.Origin{IP: "192.0.2.7"})
	if err != nil {
		panic(err)
	}
	if known && !there {
		b.keys[name] = false
		b.setKeys()
	}
	return c
}

// remove removes a key.
func (b *backend) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[name] = false
	b.setKeys()
}

func (b *backend) setKeys() {
	var keys []access.Key
	for name, there := range b.keys {
		if there {
			keys = append(keys, access.Key{Name: name, Role: access.Admin,
				Hash: sha256.Sum256([]byte(name))})
		}
	}
	b.guard.SetKeys(keys)
}

type listener struct {
	conns chan net.Conn
	ctx   context.Context
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

// client is a client of the stream. It reads only when it is told to.
type client struct {
	t    testing.TB
	ws   *websocket.Conn
	conn net.Conn
}

// connect opens a stream with a key of that name, and reads the hello.
func (b *backend) connect(key string) *client {
	b.t.Helper()
	c := b.dial(key)
	require.JSONEq(b.t,
		`{"hello":{"key":"`+key+`","role":"admin","features":["all"]}}`, c.next())
	return c
}

func (b *backend) dial(key string) *client {
	b.t.Helper()
	c := &client{t: b.t}
	dial := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		b.conns <- far
		c.conn = near
		return near, nil
	}
	tr := &http.Transport{DialContext: dial}
	ws, _, err := websocket.Dial(context.Background(), "http://relukko.test/v1/stream",
		&websocket.DialOptions{
			HTTPClient: &http.Client{Transport: tr}, Subprotocols: []string{wire.StreamProtocol},
			HTTPHeader: http.Header{"X-Api-Key": {key}},
		})
	require.NoError(b.t, err)
	require.Equal(b.t, wire.StreamProtocol, ws.Subprotocol())
	ws.SetReadLimit(1 << 20)
	c.ws = ws
	b.t.Cleanup(func() { ws.CloseNow() })
	return c
}

// send sends a frame of text.
func (c *client) send(format string, args ...any) {
	c.t.Helper()
	require.NoError(c.t, c.write(fmt.Sprintf(format, args...)))
}

func (c *client) write(text string) error {
	return c.ws.Write(context.Background(), websocket.MessageText, []byte(text))
}

// next returns the next message.
func (c *client) next() string {
	c.t.Helper()
	kind, message, err := c.ws.Read(context.Background())
	require.NoError(c.t, err)
	require.Equal(c.t, websocket.MessageText, kind)
	return string(message)
}

// message is a message of the server.
type message struct {
	N       uint64    `json:"n"`
	Seen    *uint64   `json:"seen"`
	Lock    *lock     `json:"lock"`
	Locks   []lock    `json:"locks"`
	Deleted *lock     `json:"deleted"`
	By      *string   `json:"by"`
	Done    bool      `json:"done"`
	Pong    bool      `json:"pong"`
	Bye     bool      `json:"bye"`
	Wanted  *wanted   `json:"wanted"`
	Waiting *waiting  `json:"waiting"`
	Error   *anError  `json:"error"`
	Hello   *struct{} `json:"hello"`
}

type wanted struct {
	ID      string `json:"id"`
	Waiters int    `json:"waiters"`
}

type waiting struct {
	Ahead  int   `json:"ahead"`
	Holder *lock `json:"holder"`
}

type anError struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
	Lock    *lock  `json:"lock"`
}

type lock struct {
	ID        string    `json:"id"`
	Name      string    `json:"lock_name"`
	Creator   *string   `json:"creator"`
	IP        string    `json:"ip"`
	Owner     string    `json:"owner"`
	ExpiresAt time.Time `json:"expires_at"`
	CreatedAt time.Time `json:"created_at"`
	Token     uint64    `json:"fencing_token"`
}

// read returns the next message, decoded. It fails on members that the protocol does not have.
func (c *client) read() (m message) {
	c.t.Helper()
	text := c.next()
	d := json.NewDecoder(strings.NewReader(text))
	require.NoError(c.t, d.Decode(&m), text)
	return m
}

// ask sends a request and returns the next message, which must be the response.
func (c *client) ask(n uint64, request string) message {
	c.t.Helper()
	c.send(`{"n":%d,%s}`, n, request)
	m := c.read()
	require.Equal(c.t, n, m.N)
	return m
}

// end returns the code of the close frame with which the connection ends; -1: there is none.
func (c *client) end() (websocket.StatusCode, string) {
	c.t.Helper()
	for {
		_, _, err := c.ws.Read(context.Background())
		if err == nil {
			continue
		}
		if closed, ok := asClose(err); ok {
			return closed.Code, closed.Reason
		}
		return -1, err.Error()
	}
}

// acquire is the member of an acquire.
func acquire(name, mark string, more ...string) string {
	return fmt.Sprintf(`"acquire":{"lock_names":[%q],"creator":"me #%s","lease":60%s}`,
		name, mark, strings.Join(append([]string{""}, more...), ","))
}

func release(id string) string  { return fmt.Sprintf(`"release":%q`, id) }
func cancel(mark string) string { return fmt.Sprintf(`"cancel":%q`, mark) }

func renew(id string, lease time.Duration) string {
	return fmt.Sprintf(`"renew":%q,"lease":%v`, id, lease.Seconds())
}

// acquireAny is the member of an acquire of any of the names.
func acquireAny(mark string, names ...string) string {
	list, _ := json.Marshal(names)
	return fmt.Sprintf(`"acquire":{"lock_names":%s,"creator":"x #%s","lease":1.5}`, list, mark)
}

const (
	ping     = `"ping":true`
	waits    = `"wait":true`
	progress = `"progress":true`
	again    = `"again":true`
)

// markOf returns a mark of its own for each number.
func markOf(i int) string { return fmt.Sprintf("mark%08d", i) }

const nobody = "00000000-0000-4000-8000-000000000000"

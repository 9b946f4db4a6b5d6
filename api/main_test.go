package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testID   = "950daa20-a814-451e-9407-ec496cf9c136"
	testKey  = "s3cr3t-key-0815"
	otherID  = "11111111-2222-3333-4444-555555555555"
	testName = "robot-arm-1"
	testLock = `{"id":"950daa20-a814-451e-9407-ec496cf9c136","lock_name":"robot-arm-1",` +
		`"creator":"bench-7","ip":"10.89.0.6","expires_at":"2024-10-31T20:14:43.9313Z",` +
		`"created_at":"2024-10-31T20:04:43.9313Z","updated_at":"2024-10-31T20:04:43.9313Z"}`
	goneBody = `{"status":404,"message":"no such lock"}`
)

// theLock is testLock.
func theLock() Lock {
	created := time.Date(2024, 10, 31, 20, 4, 43, 931_300_000, time.UTC)
	return Lock{
		ID: testID, Name: testName, Creator: "bench-7", IP: "10.89.0.6",
		ExpiresAt: created.Add(10 * time.Minute), CreatedAt: created, UpdatedAt: created,
	}
}

// with returns testLock with one member changed, or left out where value is "".
func with(name, value string) string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(testLock), &m); err != nil {
		panic(err)
	}
	delete(m, name)
	if value != "" {
		m[name] = json.RawMessage(value)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return strings.Replace(testLock, "{", `{"`+name+`":`+value+",", 1)
	}
	return string(b)
}

// serve runs h on loopback and returns its URL.
func serve(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// answer is a handler that always answers the same.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// raw serves each connection to loopback with f, which owns it, and returns a URL.
func raw(t testing.TB, f func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return "http://" + serveRaw(t, l, f)
}

func serveRaw(t testing.TB, l net.Listener, f func(net.Conn)) string {
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				f(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// readRequest reads one whole request from conn.
func readRequest(conn net.Conn) (*http.Request, error) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req, err
}

// client returns a client of the backend at url, which is closed in the end.
func client(t testing.TB, url string, opts ...Option) *Client {
	c, err := New(url, testKey, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Shutdown(context.Background())) })
	return c
}

// memory is a network inside the process, which works in a synctest bubble.
type memory struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	conns []net.Conn // the clients' ends
	dials int
}

func newMemory() *memory {
	return &memory{accept: make(chan net.Conn), closed: make(chan struct{})}
}

func (m *memory) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	m.mu.Lock()
	m.dials++
	m.mu.Unlock()
	select {
	case m.accept <- theirs:
		m.mu.Lock()
		m.conns = append(m.conns, ours)
		m.mu.Unlock()
		return ours, nil
	case <-m.closed:
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case conn := <-m.accept:
		return conn, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// dialed is how many connections were asked for so far.
func (m *memory) dialed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dials
}

// cut closes all connections from the clients' end.
func (m *memory) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, conn := range m.conns {
		conn.Close()
	}
	m.conns = nil
}

// inMemory runs h on a network inside the process, and returns a client on it.
// Both end with the test, or the synctest bubble, that t belongs to.
func inMemory(t testing.TB, h http.HandlerFunc, opts ...Option) (*Client, *memory) {
	m := newMemory()
	s := &http.Server{Handler: h}
	go s.Serve(m)
	t.Cleanup(func() { s.Close() })
	transport := &http.Transport{DialContext: m.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	opts = append(opts, WithHTTPClient(&http.Client{Transport: transport}))
	return client(t, "http://backend:3000", opts...), m
}

// quiet is for servers whose complaints are part of the test.
var quiet = log.New(io.Discard, "", 0)

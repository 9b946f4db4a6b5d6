package stream

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testName = "robot-arm-1"
	mark     = "k3v5x2m4q7ab" // of the acquires under test
	lease    = time.Minute
)

var discard = slog.New(slog.DiscardHandler)

// testID returns the n-th of some ids.
func testID(n int) string { return fmt.Sprintf("950daa20-a814-451e-9407-%012d", n) }

// lockOn returns lock n, made just now by an acquire of the test.
func lockOn(n int) wire.Lock {
	creator, now := wire.WithMark("bench-7", mark), time.Now().UTC()
	return wire.Lock{
		ID: testID(n), Name: testName, Creator: &creator, IP: "10.89.0.6",
		CreatedAt: now, UpdatedAt: now, ExpiresAt: now.Add(lease),
	}
}

// request asks for the lock as a Mutex does, with the patience of its default.
func request() *acquire.Request {
	return &acquire.Request{
		Name: testName, Creator: wire.WithMark("bench-7", mark), Lease: lease, Wait: true,
		Since: time.Now(), Silence: new(acquire.Silence), Patience: time.Minute,
		BackOff: func() backoff.BackOff {
			return backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(50*time.Millisecond),
				backoff.WithMaxInterval(2*time.Second),
				backoff.WithMaxElapsedTime(0),
			)
		},
		Progress: func(*api.Lock, int) {}, Values: context.Background(), Log: discard,
	}
}

// fake is a backend whose stream the test plays, on a network inside the process.
type fake struct {
	t      *testing.T
	memory faultnet.Memory
	client *api.Client
	driver *Driver
	peers  chan *peer // connections that have got their hello

	mu       sync.Mutex
	upgrade  http.HandlerFunc // plays a response to the upgrade instead; nil: a stream
	dumb     bool             // no hello is sent
	features string           // of the hello
	plain    http.HandlerFunc // plays the plain API
	upgrades []time.Time      // when they came
	requests []string         // plain ones
	plainly  []string         // marks for which plain requests were needed
}

// play runs f in a bubble, with a fake backend.
func play(t *testing.T, f func(t *testing.T, b *fake), opts ...api.Option) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		b := &fake{t: t, peers: make(chan *peer, 100), plain: notThere}
		l, err := b.memory.Listen("relukko.test:80")
		require.NoError(t, err)
		server := &http.Server{Handler: b, ErrorLog: log.New(io.Discard, "", 0)}
		go server.Serve(l)
		transport := &http.Transport{DialContext: b.memory.DialContext}
		opts := append([]api.Option{
			api.WithHTTPClient(&http.Client{Transport: transport}),
		}, opts...)
		b.client, err = api.New("http://relukko.test", "key", opts...)
		require.NoError(t, err)
		b.driver = New(b.client, new(clock.Clock), b.cleanUp)
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			b.client.Shutdown(ctx)
			transport.CloseIdleConnections()
			server.Close()
		}()
		f(t, b)
	})
}

func notThere(w http.ResponseWriter, _ *http.Request) { answer(w, 404) }

// answer writes the backend's own refusal.
func answer(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"message":"said the backend"}`, status)
}

// cleanUp cancels a mark, as the other driver does.
func (b *fake) cleanUp(r *acquire.Request) {
	_, mark, _ := wire.CutMark(r.Creator)
	tasks, task := b.driver.s.tasks, new(task)
	require.NoError(b.t, tasks.Continue(task))
	ctx, confirmed := context.WithCancel(tasks.Context(context.Background()))
	stop := b.driver.Cancel(mark, confirmed, func() {
		b.set(func() { b.plainly = append(b.plainly, mark) })
	})
	go func() {
		defer tasks.End(task)
		<-ctx.Done()
		stop()
	}()
}

// set changes how the backend behaves.
func (b *fake) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// get returns what f returns.
func get[T any](b *fake, f func() T) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f()
}

// when returns when the upgrades came.
func (b *fake) when() []time.Time {
	return get(b, func() []time.Time { return slices.Clone(b.upgrades) })
}

func (b *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	upgrade, dumb, plain, features := b.upgrade, b.dumb, b.plain, b.features
	if r.URL.Path == wire.StreamPath {
		b.upgrades = append(b.upgrades, time.Now())
	} else {
		b.requests = append(b.requests, r.Method+" "+r.URL.Path)
	}
	b.mu.Unlock()
	switch {
	case r.URL.Path != wire.StreamPath:
		plain(w, r)
		return
	case upgrade != nil:
		upgrade(w, r)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{wire.StreamProtocol},
	})
	if err != nil {
		return
	}
	p := &peer{t: b.t, ws: ws, header: r.Header}
	if !dumb {
		p.say(`{"hello":{"key":"default","role":"admin","features":[` + features + `]}}`)
	}
	b.peers <- p
}

// refuse returns a response to the upgrade.
func refuse(status int, own bool, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		if own {
			answer(w, status)
			return
		}
		w.WriteHeader(status)
		io.WriteString(w, "<html>said a proxy</html>")
	}
}

// next returns the next connection.
func (b *fake) next() *peer {
	b.t.Helper()
	select {
	case p := <-b.peers:
		return p
	case <-time.After(time.Minute):
		require.Fail(b.t, "no connection within a minute")
		return nil
	}
}

// peer is the server's end of a connection.
type peer struct {
	t      *testing.T
	ws     *websocket.Conn
	header http.Header

	mu   sync.Mutex
	open map[string]uint64 // acquires without an answer, by creator
}

// say sends a message.
func (p *peer) say(text string) {
	kind := websocket.MessageText
	if text == "\x00" {
		kind = websocket.MessageBinary
	}
	p.mu.Lock()
	maps.DeleteFunc(p.open, func(_ string, n uint64) bool {
		return strings.HasPrefix(text, fmt.Sprintf(`{"n":%d,`, n))
	})
	p.mu.Unlock()
	_ = p.ws.Write(context.Background(), kind, []byte(text))
}

// read returns the next request.
func (p *peer) read() wire.StreamRequest {
	p.t.Helper()
	r, err := p.tryRead()
	require.NoError(p.t, err)
	return r
}

// tryRead returns the next request, but not those that ask for the place of an acquire.
func (p *peer) tryRead() (wire.StreamRequest, error) {
	for {
		r, err := p.tryReadAll()
		if err != nil || !p.asksForPlace(&r) {
			return r, err
		}
	}
}

func (p *peer) asksForPlace(r *wire.StreamRequest) bool {
	if r.Kind != wire.RequestAcquire && r.Kind != wire.RequestAcquireAll {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, again := p.open[r.Acquire.Creator]
	if p.open == nil {
		p.open = map[string]uint64{}
	}
	if !again {
		p.open[r.Acquire.Creator] = r.N
	}
	return again && r.Acquire.Progress
}

func (p *peer) tryReadAll() (wire.StreamRequest, error) {
	_, frame, err := p.ws.Read(context.Background())
	if err != nil {
		return wire.StreamRequest{}, err
	}
	return wire.ParseStreamRequest(frame)
}

// readBut returns the next request that is no ping; it answers the pings.
func (p *peer) readBut() wire.StreamRequest {
	p.t.Helper()
	for {
		r := p.read()
		if r.Kind != wire.RequestPing {
			return r
		}
		p.say(fmt.Sprintf(`{"n":%d,"pong":true}`, r.N))
	}
}

// expect returns the next request but pings, which must be of that kind.
func (p *peer) expect(kind wire.RequestKind) wire.StreamRequest {
	p.t.Helper()
	r := p.readBut()
	require.Equal(p.t, kind, r.Kind)
	return r
}

// ended waits for the end of the connection, and returns the code of its close frame; -1: none.
func (p *peer) ended() websocket.StatusCode {
	p.t.Helper()
	for {
		if _, err := p.tryRead(); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

// cut breaks the connection.
func (p *peer) cut() { p.ws.CloseNow() }

// grant answers an acquire.
func (p *peer) grant(n, seen uint64, l wire.Lock) {
	p.say(string(wire.AppendStreamMessage(nil, &wire.StreamMessage{
		Kind: wire.MessageLock, N: n, Seen: seen, HasSeen: true, Lock: l,
	})))
}

// renewed answers a renewal.
func (p *peer) renewed(n uint64, l wire.Lock) {
	p.say(string(wire.AppendStreamMessage(nil, &wire.StreamMessage{
		Kind: wire.MessageLock, N: n, Lock: l,
	})))
}

func (p *peer) done(n uint64) { p.say(fmt.Sprintf(`{"n":%d,"done":true}`, n)) }

func (p *peer) fail(n uint64, status int) {
	p.say(fmt.Sprintf(`{"n":%d,"error":{"status":%d,"message":"said the backend"}}`, n, status))
}

// outcome is what an Acquire has returned.
type outcome struct {
	grant *acquire.Grant
	err   error
}

// acquire acquires in the background.
func (b *fake) acquire(ctx context.Context, r *acquire.Request) <-chan outcome {
	done := make(chan outcome, 1)
	// A Mutex has a task for each Lock, from which a cleanup takes over.
	task := new(task)
	require.NoError(b.t, b.driver.s.tasks.Begin(task))
	go func() {
		g, err := b.driver.Acquire(ctx, r)
		b.driver.s.tasks.End(task)
		done <- outcome{g, err}
	}()
	return done
}

type task struct{ _ byte }

func (*task) Describe() string { return "a test" }
func (*task) Abandon()         {}

// granted acquires the lock over p.
func (b *fake) granted(p *peer, n int) *acquire.Grant {
	b.t.Helper()
	done := b.acquire(b.t.Context(), request())
	r := p.expect(wire.RequestAcquire)
	p.grant(r.N, r.N, lockOn(n))
	out := <-done
	require.NoError(b.t, out.err)
	return out.grant
}

// connected returns a connection that is up, and the grant that keeps it so.
func (b *fake) connected() (*peer, *acquire.Grant) {
	b.t.Helper()
	done := b.acquire(b.t.Context(), request())
	p := b.next()
	r := p.expect(wire.RequestAcquire)
	p.grant(r.N, r.N, lockOn(1))
	out := <-done
	require.NoError(b.t, out.err)
	return p, out.grant
}

// serve answers pings, and passes other requests to f, until the connection ends.
func (p *peer) serve(f func(r wire.StreamRequest)) {
	for {
		r, err := p.tryRead()
		if err != nil {
			return
		}
		if r.Kind == wire.RequestPing {
			p.say(fmt.Sprintf(`{"n":%d,"pong":true}`, r.N))
		} else if f != nil {
			f(r)
		}
	}
}

// connectedTo acquires the lock over p.
func (b *fake) connectedTo(p *peer) (*peer, *acquire.Grant) {
	b.t.Helper()
	return p, b.granted(p, 1)
}

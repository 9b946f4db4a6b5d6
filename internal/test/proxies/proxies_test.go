//go:build unix

package proxies

import (
	"context"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/overlap"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

var long = flag.Bool("long", false, "wait for a lock for longer than nginx's proxy_read_timeout")

// readTimeout is nginx's own proxy_read_timeout.
const readTimeout = 60 * time.Second

var postgres pgtest.Cluster

// folder has the binary.
var folder string

func TestMain(m *testing.M) {
	overlap.Tests("8")
	var err error
	if folder, err = os.MkdirTemp("", "nginx"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(postgres.Main(m), goleak.Cleanup(func(code int) {
		os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// snippet returns a configuration of docs/operations.md with each text, which it has once, replaced
// by the one that follows.
func snippet(t testing.TB, language string, replaced ...string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "operations.md"))
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```")
	found := block.FindStringSubmatch(string(page))
	require.NotNil(t, found, "the page has no configuration of %s", language)
	for i := 0; i < len(replaced); i += 2 {
		require.Equal(t, 1, strings.Count(found[1], replaced[i]), replaced[i])
		found[1] = strings.Replace(found[1], replaced[i], replaced[i+1], 1)
	}
	return found[1]
}

// A runner starts a proxy before servers.
type runner func(t testing.TB, servers ...string) *proxy

// recommended runs nginx as docs/operations.md says.
func recommended(t testing.TB, servers ...string) *proxy {
	t.Helper()
	return runNginx(t, snippet(t, "nginx", "listen 80;", "listen 127.0.0.1:LISTEN;",
		"server 127.0.0.1:3000;", "server "+strings.Join(servers, "; server ")+";"))
}

// caddy runs Caddy as docs/operations.md says.
func caddy(t testing.TB, servers ...string) *proxy {
	t.Helper()
	return runCaddy(t, snippet(t, "caddy", "relukko.example", "http://127.0.0.1:LISTEN",
		"127.0.0.1:3000", strings.Join(servers, " ")))
}

// plain runs nginx with the shortest configuration: it passes no WebSockets, uses HTTP/1.0 and a
// connection for each request.
func plain(t testing.TB, servers ...string) *proxy {
	t.Helper()
	return runNginx(t, "server { listen 127.0.0.1:LISTEN; location / { proxy_pass http://"+
		servers[0]+"; } }")
}

var proxies = []struct {
	name string
	run  runner
	push bool
}{
	{"as recommended", recommended, true},
	{"Caddy", caddy, true},
	{"without WebSockets", plain, false},
}

// each runs a test with each proxy.
func each(t *testing.T, test func(t *testing.T, p *proxy, push bool)) {
	for _, c := range proxies {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			test(t, c.run(t, serve(t)), c.push)
		})
	}
}

func client(t testing.TB, url string) *api.Client {
	t.Helper()
	c, err := api.New(url, key)
	require.NoError(t, err)
	t.Cleanup(func() {
		// Without WebSockets a create that was cut off is looked for longer than Close waits.
		if err := c.Close(); err != nil {
			require.ErrorContains(t, err, "the cleanup of a Lock that gave up")
		}
	})
	return c
}

func (p *proxy) client() *api.Client { return client(p.t, p.url) }

// waiter is a Lock that waits.
type waiter struct {
	mutex   *relukko.Mutex
	waits   chan struct{}
	granted chan error
	held    context.Context // once granted
	at      time.Time
}

func (p *proxy) wait(ttl time.Duration) *waiter {
	p.t.Helper()
	w := &waiter{waits: make(chan struct{}), granted: make(chan error, 1)}
	waiting := func(relukko.Waiting) {
		select {
		case <-w.waits:
		default:
			close(w.waits)
		}
	}
	w.mutex = relukko.NewMutex(p.client(), "arm", relukko.WithTTL(ttl), relukko.WithOnWait(waiting))
	go func() {
		held, err := w.mutex.Lock(context.Background())
		w.held, w.at = held, time.Now()
		w.granted <- err
	}()
	select {
	case <-w.waits:
	case err := <-w.granted:
		p.t.Fatalf("it did not wait: %v", err)
	case <-time.After(patience):
		p.t.Fatal("nothing says that it waits")
	}
	return w
}

// handsOff unlocks the holder's mutex and returns how long the waiter then took.
func handsOff(t testing.TB, holder *relukko.Mutex, held context.Context, w *waiter) time.Duration {
	t.Helper()
	require.NoError(t, held.Err())
	began := time.Now()
	require.NoError(t, holder.Unlock(held))
	require.NoError(t, <-w.granted)
	return w.at.Sub(began)
}

// A lock is held for several leases while another client waits, and the proxy reloads its
// configuration meanwhile. The hand-over is prompt with push and without.
func TestHoldWaitHandOff(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *proxy, push bool) {
		w, err := p.client().Watch(t.Context())
		require.NoError(t, err)
		defer w.Close()
		want := map[bool]api.EventKind{true: api.EventConnected, false: api.EventDisconnected}
		require.Equal(t, want[push], (<-w.Events()).Kind)

		const ttl = 2 * time.Second
		mutex := relukko.NewMutex(p.client(), "arm", relukko.WithTTL(ttl))
		held, err := mutex.Lock(t.Context())
		require.NoError(t, err)
		waiting := p.wait(ttl)
		time.Sleep(ttl)
		p.reload()
		time.Sleep(2 * ttl)
		took := handsOff(t, mutex, held, waiting)
		t.Logf("hand-over in %v", took)
		require.Less(t, took, time.Second)

		time.Sleep(ttl + ttl/2)
		require.NoError(t, waiting.held.Err(), "it is renewed")
		require.NoError(t, waiting.mutex.Unlock(waiting.held))
		locks, err := p.client().List(t.Context())
		require.NoError(t, err)
		require.Empty(t, locks)
	})
}

// A proxy that is down for less than half of the lease loses no lock and no wait.
func TestRestart(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *proxy, _ bool) {
		const ttl = 4 * time.Second
		mutex := relukko.NewMutex(p.client(), "arm", relukko.WithTTL(ttl))
		held, err := mutex.Lock(t.Context())
		require.NoError(t, err)
		waiting := p.wait(ttl)
		p.process.stop()
		time.Sleep(ttl / 4)
		require.True(t, p.start(), "%s", &p.process.stderr)
		time.Sleep(ttl)
		took := handsOff(t, mutex, held, waiting)
		t.Logf("hand-over in %v", took)
		require.Less(t, took, 6*time.Second) // it polls at most 5 s apart while push is down
		require.NoError(t, waiting.mutex.Unlock(waiting.held))
	})
}

// The lock has the client's own address where the proxy passes it on, over TCP or a Unix socket.
func TestAddress(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(folder, "address.sock")
	serveOn(t, "unix:"+socket)
	for name, c := range map[string]struct {
		run    runner
		socket string
	}{"nginx": {recommended, "unix:" + socket}, "Caddy": {caddy, "unix/" + socket}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireAddress(t, c.run(t, serve(t)))
			requireAddress(t, c.run(t, c.socket))
		})
	}
}

func requireAddress(t *testing.T, p *proxy) {
	t.Helper()
	address := "127.0.0.1"
	if runtime.GOOS == "linux" { // which has all of 127.0.0.0/8
		address = "127.0.0.2"
	}
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: from.DialContext}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodPost, p.url+"/v1/locks/",
		strings.NewReader(`{"lock_name":"arm","creator":"curl"}`))
	require.NoError(t, err)
	r.Header.Set("X-API-KEY", key)
	r.Header.Set("X-Forwarded-For", "192.0.2.7") // what a client claims does not count
	r.Header.Set("Forwarded", "for=192.0.2.7")
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	var lock api.Lock
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&lock))
	require.Equal(t, address, lock.IP)
	_, err = p.client().Delete(t.Context(), lock.ID)
	require.NoError(t, err)
}

// With -long: nginx ends no wait, and no push, that lasts longer than its proxy_read_timeout.
func TestWaitLongerThanReadTimeout(t *testing.T) {
	t.Parallel()
	if !*long {
		t.Log("NOT TESTED: -long is not set")
		return
	}
	each(t, func(t *testing.T, p *proxy, push bool) {
		w, err := p.client().Watch(t.Context())
		require.NoError(t, err)
		defer w.Close()
		<-w.Events()
		mutex := relukko.NewMutex(p.client(), "arm", relukko.WithTTL(10*time.Second))
		held, err := mutex.Lock(t.Context())
		require.NoError(t, err)
		waiting := p.wait(10 * time.Second)
		time.Sleep(readTimeout + 5*time.Second)
		took := handsOff(t, mutex, held, waiting)
		t.Logf("hand-over in %v", took)
		require.Less(t, took, time.Second)
		require.NoError(t, waiting.mutex.Unlock(waiting.held))
		for push {
			e := <-w.Events()
			require.NotEqual(t, api.EventDisconnected, e.Kind, "push was lost")
			push = e.Kind != api.EventDeleted
		}
	})
}

// compare measures without a proxy and with each one.
func compare(b *testing.B, measure func(b *testing.B, url string)) {
	b.Run("direct", func(b *testing.B) { measure(b, "http://"+serve(b)) })
	for _, c := range proxies {
		b.Run(c.name, func(b *testing.B) { measure(b, c.run(b, serve(b)).url) })
	}
}

// What a proxy adds to a Lock and Unlock that nothing else competes for.
func BenchmarkLockUnlock(b *testing.B) {
	measure := func(b *testing.B, url string) {
		mutex := relukko.NewMutex(client(b, url), "arm")
		for b.Loop() {
			held, err := mutex.Lock(b.Context())
			require.NoError(b, err)
			require.NoError(b, mutex.Unlock(held))
		}
	}
	compare(b, measure)
}

// How long after an Unlock a waiter of another client has the lock.
func BenchmarkHandOver(b *testing.B) {
	measure := func(b *testing.B, url string) {
		mutexes := make([]*relukko.Mutex, 4)
		for i := range mutexes {
			mutexes[i] = relukko.NewMutex(client(b, url), "arm")
		}
		held, err := mutexes[0].Lock(b.Context())
		require.NoError(b, err)
		b.ResetTimer()
		b.StopTimer()
		for i := 0; i < b.N; i++ {
			next := make(chan context.Context)
			go func() {
				ctx, err := mutexes[(i+1)%len(mutexes)].Lock(b.Context())
				require.NoError(b, err)
				next <- ctx
			}()
			time.Sleep(5 * time.Millisecond) // until it waits
			b.StartTimer()
			require.NoError(b, mutexes[i%len(mutexes)].Unlock(held))
			held = <-next
			b.StopTimer()
		}
		require.NoError(b, mutexes[b.N%len(mutexes)].Unlock(held))
	}
	compare(b, measure)
}

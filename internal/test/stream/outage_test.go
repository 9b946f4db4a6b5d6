//go:build linux

package stream

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// withBackend runs f in a bubble, with a backend on a network in memory.
func withBackend(
	t *testing.T, f func(t *testing.T, s *relukkotest.Server), opts ...relukkotest.Option,
) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		f(t, relukkotest.NewServer(t, append(opts, relukkotest.InMemory())...))
	})
}

func TestOrderOutlastsADownServer(t *testing.T) {
	parallel(t)
	withBackend(t, func(t *testing.T, s *relukkotest.Server) {
		const name, waiters = "robot-arm-1", 20
		holder := lockSoon(t, s.Client(), name)
		holder.wait(t)
		order := &served{t: t}
		var want []string
		for i := range waiters {
			want = append(want, fmt.Sprint("waiter-", i))
			order.join(s.NewLink().Client(), name, want[i])
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		s.Stop()
		time.Sleep(12 * time.Second)
		s.Start(true)
		order.join(s.NewLink().Client(), name, "newcomer")
		time.Sleep(3 * time.Second)
		holder.unlock(t)
		require.Equal(t, append(want, "newcomer"), order.wait())
	})
}

// darkStreams is a network on which only streams can go dark: a proxy that passes HTTP.
type darkStreams struct {
	mu    sync.Mutex
	dark  bool
	light chan struct{} // closed by the end of the dark
}

func (d *darkStreams) set(dark bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dark = dark
	if dark {
		d.light = make(chan struct{})
	} else {
		close(d.light)
	}
}

// lightAgain returns nil while it is not dark.
func (d *darkStreams) lightAgain() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dark {
		return d.light
	}
	return nil
}

// client returns a client whose streams are on this network.
func (d *darkStreams) client(t testing.TB, s *relukkotest.Server) *api.Client {
	h := s.HTTPClient()
	transport := h.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		return &darkConn{Conn: c, of: d, closed: make(chan struct{})}, err
	}
	c, err := api.New(s.URL, s.APIKey, api.WithHTTPClient(h))
	require.NoError(t, err)
	return c
}

// darkConn loses what is sent on it in the dark, if it is a stream, and stays silent then.
type darkConn struct {
	net.Conn
	of     *darkStreams
	once   sync.Once
	closed chan struct{}

	mu     sync.Mutex
	stream bool
	lost   bool
}

func (c *darkConn) loses(sent []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream = c.stream || bytes.HasPrefix(sent, []byte("GET /v1/stream"))
	c.lost = c.lost || c.stream && c.of.lightAgain() != nil
	return c.lost
}

func (c *darkConn) Write(b []byte) (int, error) {
	if c.loses(b) {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *darkConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.loses(nil) {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *darkConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// TestOnlyTheStreamGoesDark darkens the path of the stream for a minute. Locks that are held stay,
// those that wait are acquired by plain requests, and nothing is left behind.
func TestOnlyTheStreamGoesDark(t *testing.T) {
	parallel(t)
	withBackend(t, func(t *testing.T, s *relukkotest.Server) {
		d := &darkStreams{}
		c := d.client(t, s)
		ttl := relukko.WithTTL(10 * time.Second)
		held := lockSoon(t, c, "held", ttl)
		held.wait(t)
		other := lockSoon(t, s.Client(), "waited", ttl)
		other.wait(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		waits := relukko.NewMutex(c, "waited", ttl)
		acquired := make(chan error, 1)
		var waited context.Context
		go func() {
			var err error
			waited, err = waits.Lock(ctx)
			acquired <- err
		}()
		time.Sleep(2 * time.Second)
		d.set(true)

		// One that is cancelled in the dark leaves nothing, whenever that is.
		var cancelled sync.WaitGroup
		for i := range 40 {
			cancelled.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(),
					time.Duration(i)*637*time.Millisecond)
				defer cancel()
				m := relukko.NewMutex(c, fmt.Sprint("cancelled-", i), ttl)
				if held, err := m.Lock(ctx); err == nil && m.Unlock(held) != nil {
					t.Error("not released in the dark")
				}
			})
		}
		began := time.Now()
		fresh := relukko.NewMutex(c, "fresh", ttl)
		freshly, err := fresh.Lock(ctx)
		require.NoError(t, err)
		inTheDark := time.Since(began)
		cancelled.Wait()
		other.unlock(t)
		released := time.Now()
		require.NoError(t, <-acquired)
		handedOver := time.Since(released)
		require.NoError(t, freshly.Err())
		time.Sleep(time.Minute)
		require.NoError(t, held.held.Err())
		d.set(false)
		time.Sleep(11 * time.Minute) // until the stream is tried again
		for m, ctx := range map[*relukko.Mutex]context.Context{
			held.m: held.held, waits: waited, fresh: freshly,
		} {
			require.NoError(t, m.Unlock(ctx))
		}
		require.NoError(t, c.Shutdown(t.Context()))
		require.Empty(t, s.Locks())
		fmt.Printf("%s: a new lock took %v, a hand-over to one that waited %v\n", t.Name(),
			inTheDark, handedOver)
	})
}

// TestTenWaitersWithoutPowerCostOneLease lets a machine with ten waiters fall silent.
func TestTenWaitersWithoutPowerCostOneLease(t *testing.T) {
	parallel(t)
	const ttl = 10 * time.Second
	for _, clients := range []int{1, 10} {
		for _, silent := range []time.Duration{0, time.Second, 4 * time.Second, 30 * time.Second} {
			t.Run(fmt.Sprint(clients, " clients, silent for ", silent), func(t *testing.T) {
				withBackend(t, func(t *testing.T, s *relukkotest.Server) {
					const name = "robot-arm-1"
					holder := lockSoon(t, s.Client(), name, relukko.WithTTL(ttl))
					holder.wait(t)
					machine := s.NewLink()
					ctx, cancel := context.WithCancel(t.Context())
					var dead sync.WaitGroup
					var c *api.Client
					for i := range 10 {
						if i < clients {
							c = machine.Client()
						}
						m := relukko.NewMutex(c, name, relukko.WithTTL(ttl))
						dead.Go(func() { m.Lock(ctx) })
						time.Sleep(10 * time.Millisecond)
					}
					next := lockSoon(t, s.NewLink().Client(), name, relukko.WithTTL(ttl))
					time.Sleep(time.Second)
					machine.GoDark()
					time.Sleep(silent)
					released := time.Now()
					holder.unlock(t)
					took := next.wait(t).Sub(released)
					next.unlock(t)
					t.Logf("the next one waited for %v", took)
					require.LessOrEqual(t, took, ttl+ttl/10+time.Second)
					cancel()
					machine.ComeBack()
					dead.Wait()
				})
			})
		}
	}
}

// TestSlowClientStallsNobody has a client that sends many requests and reads nothing. It does not
// run in parallel with others, which it would slow down.
func TestSlowClientStallsNobody(t *testing.T) {
	requests := scaled(3000, 50_000)
	n := serve(t, "memory")
	slow := openRaw(t, n.url)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := 1; i <= requests; i++ {
			if slow.write(ctx, fmt.Sprintf(`{"n":%d,"acquire":{"lock_names":["slow-%d"],"creator":`+
				`"slow #%012d","lease":60,"wait":true,"progress":true}}`, i, i%100, i)) != nil {
				return
			}
		}
	})
	other := relukko.NewMutex(newClient(t, n.url), "robot-arm-1")
	longest, rounds := time.Duration(0), 0
	for end := time.Now().Add(scaled(time.Second, 15*time.Second)); time.Now().Before(end); {
		began := time.Now()
		require.NoError(t, other.Do(t.Context(), func(context.Context) error { return nil }))
		longest = max(longest, time.Since(began))
		rounds++
	}
	cancel()
	sending.Wait()
	fmt.Printf("%s: %d rounds, %v at most\n", t.Name(), rounds, longest.Round(time.Microsecond))
	require.Less(t, longest, time.Second)
}

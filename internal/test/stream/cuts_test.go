//go:build linux

package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
)

// turns checks the sections of one name.
type turns struct {
	hold   time.Duration
	inside atomic.Int32
	token  atomic.Uint64

	mu      sync.Mutex
	count   int
	longest time.Duration
	last    []time.Time // when those began to wait who were served after the cuts
}

// cuts are the times of a test in which connections are cut.
type cuts struct {
	over    atomic.Bool
	settled chan struct{} // closed once all clients have had the time to come back
}

// section waits for the lock, and holds it for a moment. The section in which the cuts end lasts
// until all clients are back.
func (n *turns) section(m *relukko.Mutex, c *cuts) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	if n.inside.Add(1) != 1 {
		return errors.New("two sections overlap")
	}
	s, _ := relukko.FromContext(held)
	if last := n.token.Swap(s.Info().FencingToken); s.Info().FencingToken <= last {
		return fmt.Errorf("token %d after %d", s.Info().FencingToken, last)
	}
	n.mu.Lock()
	n.count++
	n.longest = max(n.longest, time.Since(began))
	select {
	case <-c.settled:
		n.last = append(n.last, began)
	default:
	}
	n.mu.Unlock()
	pause(n.hold)
	if c.over.Load() {
		<-c.settled
	}
	n.inside.Add(-1)
	return m.Unlock(held)
}

// TestCutConnectionsLoseNothing cuts the connections of clients that contend for two names. When
// the cuts end, those who wait then are served in the order in which they began.
func TestCutConnectionsLoseNothing(t *testing.T) {
	parallel(t)
	const clients, each = 6, 4
	n := serve(t, boltStore(t))
	names := map[string]*turns{
		"robot-arm-1": {hold: 10 * time.Millisecond}, "robot-arm-2": {hold: 120 * time.Millisecond},
	}
	c := cuts{settled: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), scaled(4*time.Second, time.Minute))
	defer cancel()
	var working, cutting sync.WaitGroup
	var total atomic.Int32
	for range clients {
		p := n.proxy()
		client := newClient(t, "http://"+p.Addr())
		for name, turns := range names {
			for range each {
				m := relukko.NewMutex(client, name, relukko.WithTTL(10*time.Second))
				working.Go(func() {
					for !c.over.Load() {
						if err := turns.section(m, &c); err != nil {
							t.Errorf("%s: %v", name, err)
							return
						}
					}
				})
			}
		}
		cutting.Go(func() {
			for ctx.Err() == nil {
				pause(20*time.Millisecond + rand.N(2*time.Second))
				p.Cut()
				total.Add(1)
			}
		})
	}
	cutting.Wait()
	c.over.Store(true)
	pause(3 * time.Second) // retries are at most 1 s apart
	close(c.settled)
	working.Wait()
	a, err := request(t.Context(), http.DefaultClient, "GET", n.url+"/v1/locks/", "")
	require.NoError(t, err)
	require.Equal(t, "[]", a.body, "orphans")
	for name, turns := range names {
		fmt.Printf("%s: %s: %d cuts, %d sections, longest wait %v\n", t.Name(), name, total.Load(),
			turns.count, turns.longest.Round(time.Millisecond))
		turns.check(t)
	}
}

// check requires that those who were served last were served in their order. A call that began
// without a connection came up to a second later.
func (n *turns) check(t *testing.T) {
	t.Helper()
	require.NotEmpty(t, n.last)
	latest := n.last[0]
	for i, began := range n.last {
		require.Less(t, latest.Sub(began), 1500*time.Millisecond,
			"number %d of %d lost its place", i, len(n.last))
		if began.After(latest) {
			latest = began
		}
	}
}

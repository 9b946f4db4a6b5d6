//go:build linux

package stream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

const (
	poolGoroutines = 8               // of each process
	settleTime     = 2 * time.Second // after a cut, until all of a process wait again
)

// pool has the goroutines share a pool.
func (w *chaosWorker) pool() int {
	p := relukko.NewPool(w.client, w.Pool, w.options()...)
	return w.run(func(ctx context.Context, who int) { w.hold(ctx, who, p, nil) })
}

// poolRun is a chaos of a pool.
type poolRun struct {
	*chaos
	free []span // when a member was free on the backend; mu guards it
}

// span is a time for which a member was free, or a goroutine waited.
type span struct {
	member   string
	from, to int64
	process  int
}

// watch records when members are free, as the server broadcasts it.
func (r *poolRun) watch(ctx context.Context, c *api.Client) (done *sync.WaitGroup) {
	w, err := c.Watch(ctx)
	require.NoError(r.t, err)
	since := map[string]int64{}
	done = new(sync.WaitGroup)
	done.Go(func() {
		defer w.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-w.Events():
				now := time.Now().UnixNano()
				switch e.Kind {
				case api.EventDeleted:
					since[e.Name] = now
				case api.EventCreated:
					if from := since[e.Name]; from != 0 {
						r.mu.Lock()
						r.free = append(r.free, span{member: e.Name, from: from, to: now})
						r.mu.Unlock()
					}
					delete(since, e.Name)
				}
			}
		}
	})
	return done
}

// TestPoolInChaos has goroutines of several processes share a pool while processes are killed,
// connections cut, and locks deleted. No two ever have one member, no member is free while somebody
// waits, and all wait for about the same time.
func TestPoolInChaos(t *testing.T) {
	parallel(t)
	for name, row := range map[string]struct {
		store   func(t testing.TB) string
		servers int
		idle    time.Duration // for which a member may be free while somebody waits
	}{
		"bbolt":      {boltStore, 1, scaled(500*time.Millisecond, 50*time.Millisecond)},
		"PostgreSQL": {postgres.Database, 2, scaled(2*time.Second, time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			url := row.store(t)
			var nodes []*node
			for range row.servers {
				nodes = append(nodes, serve(t, url))
			}
			members := []string{"bench-1", "bench-2", "bench-3", "bench-4"}
			work := workerConfig{Pool: members, Count: poolGoroutines}
			r := &poolRun{chaos: newChaos(t, members, work, true)}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := newClient(t, nodes[0].url)
			watching := r.watch(ctx, c)
			r.run(c, nodes, scaled(6*time.Second, time.Minute))
			cancel()
			watching.Wait()
			r.check(row.idle)
		})
	}
}

// check checks what has happened.
func (r *poolRun) check(idle time.Duration) {
	t := r.t
	var waiting []span
	for _, n := range r.tenures {
		end := cmp.Or(n.Entered, n.Left, time.Now().UnixNano())
		waiting = append(waiting, span{from: n.Began, to: end, process: n.process})
	}
	var longest time.Duration
	for _, f := range r.free {
		if r.wanted(f, waiting) {
			longest = max(longest, time.Duration(f.to-f.from))
		}
	}
	overlaps, waits := r.overlaps(), r.waits()
	average, p99 := mean(waits), waits[len(waits)*99/100]
	fmt.Printf("%s: %d sections, %d kills, %d cuts, %d deletions; %d overlaps after a deletion; "+
		"a member was free for %v at most while somebody waited; waits: mean %v, 99%% %v\n",
		t.Name(), len(waits), r.kills, r.cuts, r.deletions, overlaps,
		longest.Round(time.Microsecond), average.Round(time.Millisecond),
		p99.Round(time.Millisecond))
	require.Less(t, longest, idle)
	require.Less(t, p99, 5*average+scaled(6*time.Second, 0)) // a kill costs the lease
}

// wanted reports whether some goroutine waited for all of the time for which a member was free, and
// nothing had happened to its process.
func (r *poolRun) wanted(f span, waiting []span) bool {
	return slices.ContainsFunc(waiting, func(w span) bool {
		return w.from < f.from-int64(10*time.Millisecond) && f.to <= w.to &&
			!slices.ContainsFunc(r.troubles[w.process], func(at int64) bool {
				return f.from-int64(settleTime) < at && at < f.to
			})
	})
}

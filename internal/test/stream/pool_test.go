//go:build linux

package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

const (
	poolProcesses  = 4
	poolGoroutines = 8 // of each
	poolTTL        = 5 * time.Second
	poolHold       = 40 * time.Millisecond // on average
	settleTime     = 2 * time.Second       // after a cut, until all of a process wait again
)

// tenure is what a goroutine of a poolWorker prints when it begins to wait, when it enters and when
// it leaves. Instants are numbers of nanoseconds; those that have not come yet are 0.
type tenure struct {
	Who                  int // the goroutine
	Member               string
	Token                uint64
	Began, Entered, Left int64
	Err                  string

	process int
	killed  bool
}

// poolWorker has goroutines that share a pool hold its members, each for a moment, again and again.
func poolWorker(w *workerConfig, client *api.Client) int {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(t tenure) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(t)
	}
	p := relukko.NewPool(client, w.Pool, relukko.WithTTL(w.TTL), relukko.WithCreator(w.Creator))
	ctx, end := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for who := range w.Count {
		all.Go(func() {
			for ctx.Err() == nil {
				t := tenure{Who: who, Began: time.Now().UnixNano()}
				say(t)
				held, err := p.Lock(ctx)
				if err != nil {
					if ctx.Err() == nil {
						t.Err = err.Error()
						say(t)
					}
					return
				}
				s, _ := relukko.FromContext(held)
				t.Member, t.Token = s.Name(), s.Info().FencingToken
				t.Entered = time.Now().UnixNano()
				say(t)
				select {
				case <-time.After(poolHold/2 + rand.N(poolHold)):
				case <-held.Done():
				}
				t.Left = time.Now().UnixNano()
				say(t)
				_ = p.Unlock(held) // it may be lost
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	end()
	all.Wait()
	_ = client.Close()
	return 0
}

// poolRun is what happens in a test of a pool.
type poolRun struct {
	t       *testing.T
	members []string
	deleted map[deletion]bool

	kills, cuts, deletions int

	mu       sync.Mutex
	tenures  map[[3]int64]tenure // by process, goroutine and Began: as last printed
	troubles map[int][]int64     // when something happened to a process
	free     []span              // when a member was free on the backend
}

// span is a time for which a member was free, or a goroutine waited.
type span struct {
	member   string
	from, to int64
	process  int
}

// deletion is a lock that was deleted by hand.
type deletion struct {
	member string
	token  uint64
}

// start starts a process with this number.
func (r *poolRun) start(number int, url string) (*worker, *sync.WaitGroup) {
	w := startProcess(r.t, workerConfig{
		URL: url, Pool: r.members, Count: poolGoroutines, TTL: poolTTL,
		Creator: fmt.Sprint("process-", number),
	})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			var t tenure
			if w.stdout.Decode(&t) != nil {
				return
			}
			t.process = number
			r.mu.Lock()
			r.tenures[[3]int64{int64(number), int64(t.Who), t.Began}] = t
			r.mu.Unlock()
		}
	})
	return w, &reading
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

func (r *poolRun) trouble(process int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles[process] = append(r.troubles[process], time.Now().UnixNano())
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
			r := &poolRun{
				t: t, members: []string{"bench-1", "bench-2", "bench-3", "bench-4"},
				tenures: map[[3]int64]tenure{}, troubles: map[int][]int64{},
				deleted: map[deletion]bool{},
			}
			r.chaos(nodes, scaled(6*time.Second, time.Minute))
			r.check(row.idle)
		})
	}
}

// chaos has things happen for this time.
func (r *poolRun) chaos(nodes []*node, d time.Duration) {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	c := newClient(r.t, nodes[0].url)
	watching := r.watch(ctx, c)
	var workers [poolProcesses]*worker
	var proxies [poolProcesses]*faultnet.Proxy
	var numbers [poolProcesses]int
	var readings []*sync.WaitGroup
	next := 0
	start := func(i int) {
		var reading *sync.WaitGroup
		r.trouble(next)
		workers[i], reading = r.start(next, "http://"+proxies[i].Addr())
		readings = append(readings, reading)
		numbers[i] = next
		next++
	}
	for i := range workers {
		proxies[i] = nodes[i%len(nodes)].proxy()
		start(i)
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		pause(300*time.Millisecond + rand.N(700*time.Millisecond))
		i := rand.IntN(poolProcesses)
		switch rand.IntN(4) {
		case 0:
			r.kills++
			r.trouble(numbers[i])
			workers[i].kill()
			r.killed(numbers[i])
			start(i)
		case 1:
			r.cuts++
			r.trouble(numbers[i])
			proxies[i].Cut()
		default:
			lock, err := c.Find(ctx, r.members[rand.IntN(len(r.members))])
			if err == nil {
				r.deleted[deletion{lock.Name, lock.FencingToken}] = true
				if _, err = c.Delete(ctx, lock.ID); err == nil {
					r.deletions++
				}
			}
		}
	}
	for _, w := range workers {
		w.stdin.Close()
	}
	for _, reading := range readings {
		reading.Wait()
	}
	cancel()
	watching.Wait()
}

// killed ends the tenures of a process that was killed.
func (r *poolRun) killed(process int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UnixNano()
	for key, t := range r.tenures {
		if t.process == process && t.Left == 0 {
			t.Left, t.killed = now, true
			r.tenures[key] = t
		}
	}
}

// check checks what has happened.
func (r *poolRun) check(idle time.Duration) {
	t := r.t
	byMember := map[string][]tenure{}
	var waits []time.Duration
	var waiting []span
	for _, n := range r.tenures {
		require.Empty(t, n.Err)
		end := cmp.Or(n.Entered, n.Left, time.Now().UnixNano())
		waiting = append(waiting, span{from: n.Began, to: end, process: n.process})
		if n.Entered == 0 {
			continue
		}
		byMember[n.Member] = append(byMember[n.Member], n)
		waits = append(waits, time.Duration(n.Entered-n.Began))
	}
	overlaps := 0
	for member, all := range byMember {
		slices.SortFunc(all, func(a, b tenure) int { return cmp.Compare(a.Token, b.Token) })
		for i := range all[1:] {
			a, b := all[i], all[i+1]
			require.NotEqual(t, a.Token, b.Token, member)
			if over := time.Duration(a.Left - b.Entered); over > 0 {
				deleted := r.deleted[deletion{member, a.Token}]
				require.True(t, deleted || a.killed && over < 100*time.Millisecond,
					"%s is held by two for %v", member, over)
				require.Less(t, over, time.Second)
				overlaps++
			}
		}
	}
	var longest time.Duration
	for _, f := range r.free {
		if r.wanted(f, waiting) {
			longest = max(longest, time.Duration(f.to-f.from))
		}
	}
	slices.Sort(waits)
	var sum time.Duration
	for _, d := range waits {
		sum += d
	}
	mean, p99 := sum/time.Duration(len(waits)), waits[len(waits)*99/100]
	fmt.Printf("%s: %d sections, %d kills, %d cuts, %d deletions; %d overlaps after a deletion; "+
		"a member was free for %v at most while somebody waited; waits: mean %v, 99%% %v\n",
		t.Name(), len(waits), r.kills, r.cuts, r.deletions, overlaps,
		longest.Round(time.Microsecond), mean.Round(time.Millisecond), p99.Round(time.Millisecond))
	require.Len(t, byMember, len(r.members))
	require.Less(t, longest, idle)
	require.Less(t, p99, 5*mean+scaled(6*time.Second, 0)) // a kill costs the lease
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

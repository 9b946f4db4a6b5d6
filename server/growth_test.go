package server_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// BenchmarkGrowth tells what a request costs, and what a lock, a watcher or a waiter costs of it,
// with a few of them and with four times and sixteen times as many: where the last figure of a row
// is larger than the first one, something is worse than linear.
//
//	go test -run '^$' -bench Growth -benchtime 2000x ./server
func BenchmarkGrowth(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	b.Run("watchers", func(b *testing.B) { sizes(b, 250, hearing) })
	b.Run("waiters for one name", func(b *testing.B) {
		sizes(b, 312, func(b *testing.B,
			n int) {
			queueing(b, n, func(int) string { return "robot-arm" })
		})
	})
	b.Run("waiters for as many names", func(b *testing.B) {
		sizes(b, 312, func(b *testing.B,
			n int) {
			queueing(b, n, func(i int) string { return fmt.Sprint("robot-arm-", i) })
		})
	})
	for _, st := range stores {
		on := func(growth func(b *testing.B, st store.Store, n int)) func(b *testing.B) {
			return func(b *testing.B) {
				sizes(b, 2500, func(b *testing.B, n int) { growth(b, st.open(b), n) })
			}
		}
		b.Run("heartbeats/"+st.name, on(heartbeats))
		b.Run("list/"+st.name, on(listing))
		b.Run("sweep/"+st.name, on(sweeping))
	}
}

func sizes(b *testing.B, n int, f func(b *testing.B, n int)) {
	for _, n := range []int{n, 4 * n, 16 * n} {
		b.Run(fmt.Sprint("n=", n), func(b *testing.B) { f(b, n) })
	}
}

// fill makes n locks that expire after ttl.
func fill(b *testing.B, st store.Store, n int, ttl time.Duration, mark string) (ids []string) {
	ids = make([]string, n)
	each(256, func(c int) func() {
		return func() {
			for i := c; i < n; i += 256 {
				ids[i] = fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
				_, err := st.Create(context.Background(), store.NewLock{ID: ids[i],
					Name: fmt.Sprint("robot-arm-", i), TTL: ttl, Mark: mark})
				if err != nil {
					b.Error(err)
				}
			}
		}
	}, b.ResetTimer)
	return ids
}

// heartbeats: an operation is a keep_alive of one of n locks, by one of 64 clients.
func heartbeats(b *testing.B, st store.Store, n int) {
	ids := fill(b, st, n, time.Hour, "")
	ts := serve(b, st)
	defer ts.Close()
	const clients = 64
	each(clients, func(c int) func() {
		client := newClient(b, ts)
		beat := func(i int) {
			client.send(
				"PUT", "/v1/locks/"+ids[i%n]+"/keep_alive", `{"seconds":60}`, 200)
		}
		beat(c)
		return func() {
			for i := range (b.N + c) / clients {
				beat(c + i*clients*7)
			}
		}
	}, b.ResetTimer)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "heartbeats/s")
}

// listing: an operation is one list.
func listing(b *testing.B, st store.Store, n int) {
	fill(b, st, n, time.Hour, "")
	ts := serve(b, st)
	defer ts.Close()
	client := newClient(b, ts)
	lists := max(b.N/100, 1)
	b.ResetTimer()
	for range lists {
		client.send("GET", "/v1/locks", "", 200)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(lists), "ms/list")
	perOne(b, lists*n, "lock")
}

// sweeping: an operation is all of n locks expiring.
func sweeping(b *testing.B, st store.Store, n int) {
	counted := &sweepCounter{Store: st, all: make(chan struct{}), left: n}
	fill(b, st, n, 0, "")
	b.ResetTimer()
	srv := server.New(counted, server.WithGrace(0))
	<-counted.all
	b.StopTimer()
	b.ReportMetric(b.Elapsed().Seconds()*1e3, "ms/sweep")
	perOne(b, n, "lock")
	require.NoError(b, srv.Shutdown(context.Background()))
}

type sweepCounter struct {
	store.Store
	left int
	all  chan struct{}
}

func (s *sweepCounter) Sweep(ctx context.Context, limits store.Limits) (store.Swept, error) {
	swept, err := s.Store.Sweep(ctx, limits)
	if s.left > 0 && s.left <= len(swept.Locks) {
		close(s.all)
	}
	s.left -= len(swept.Locks)
	return swept, err
}

// hearing: an operation is a delete of which all n watchers hear.
func hearing(b *testing.B, n int) {
	st := memstore.New()
	ts := serve(b, st)
	defer ts.Close()
	client := newClient(b, ts)
	var heard sync.WaitGroup
	for range n {
		defer watchLoopback(b, ts, heard.Done)()
	}
	rounds := max(b.N/20, 1)
	b.ResetTimer()
	for i := range rounds {
		lock, err := st.Create(b.Context(), store.NewLock{ID: fmt.Sprintf(
			"%08d-0000-4000-8000-000000000000", i), Name: "robot-arm", TTL: time.Hour})
		require.NoError(b, err)
		heard.Add(n)
		client.delete(lock.ID)
		heard.Wait()
	}
	b.StopTimer()
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(rounds), "ms/all-heard")
	perOne(b, rounds*n, "watcher")
}

// queueing: an operation is that a lock is deleted for which others queue, and the next has it. It
// queues again at once.
func queueing(b *testing.B, n int, name func(i int) string) {
	st := memstore.New()
	ts := serve(b, st)
	defer ts.Close()
	names := map[string]bool{}
	granted := make(chan string, n)
	var ended atomic.Bool
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range n {
		if name := name(i); !names[name] {
			names[name] = true
			lock, err := st.Create(b.Context(), store.NewLock{ID: fmt.Sprintf(
				"%08d-0000-4000-8000-000000000000", i), Name: name, TTL: time.Hour})
			require.NoError(b, err)
			granted <- lock.ID
		}
		client := newClient(b, ts)
		wg.Go(func() {
			for {
				id := client.create(name(i))
				if ended.Load() {
					client.delete(id)
					return
				}
				granted <- id
			}
		})
	}
	client := newClient(b, ts)
	for range b.N {
		client.delete(<-granted)
	}
	b.StopTimer()
	// Those who get in first are part of it: that they have to be accepted, and their requests to
	// be read.
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(n+b.N), "µs/turn")
	ended.Store(true)
	go func() {
		wg.Wait()
		close(granted)
	}()
	for id := range granted {
		client.send("DELETE", "/v1/locks/"+id, "", 200)
	}
	b.ReportMetric(0, "ns/op")
}

func perOne(b *testing.B, n int, one string) {
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(n), "µs/"+one)
	b.ReportMetric(0, "ns/op")
}

// TestALongLineIsNoWorkForTheStore: who joins it costs nothing, and who leaves it with the lock one
// create.
func TestALongLineIsNoWorkForTheStore(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const n = 1000
		st := &createCounter{Store: twoSteps{memstore.New()}}
		b := startOn(t, st)
		held := b.create("robot-arm-1", "")
		line := []*waiting{b.wait("robot-arm-1", "", 30)}
		synctest.Wait()
		st.creates.Store(0)
		for range n - 1 {
			line = append(line, b.wait("robot-arm-1", "", 30))
		}
		synctest.Wait()
		require.Zero(t, st.creates.Load())
		for range n {
			b.delete(held.ID)
			synctest.Wait()
			for i, w := range line {
				if !w.pending() {
					held = w.granted(t)
					line = append(line[:i], line[i+1:]...)
					break
				}
			}
		}
		require.Empty(t, line)
		require.EqualValues(t, n, st.creates.Load())
	})
}

type createCounter struct {
	store.Store
	creates atomic.Int64
}

func (s *createCounter) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	s.creates.Add(1)
	return s.Store.Create(ctx, in)
}

// TestASweepTakesWhatIsDue: of many locks only those that are due are looked at, a limited number
// at a time, all at once.
func TestASweepTakesWhatIsDue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &sweepCounter{Store: memstore.New(), all: make(chan struct{}), left: math.MaxInt}
		const due, kept = 10_000, 10_000
		for i := range due + kept {
			ttl := time.Second
			if i%2 == 0 {
				ttl = time.Hour
			}
			_, err := st.Create(t.Context(),
				store.NewLock{ID: fmt.Sprint(i), Name: fmt.Sprint(i), TTL: ttl})
			require.NoError(t, err)
		}
		b := startOn(t, st, server.WithGrace(0))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, math.MaxInt-due, st.left)
		require.Len(t, b.locks(), kept)
	})
}

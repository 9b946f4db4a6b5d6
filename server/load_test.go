package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

// durable is a PostgreSQL with its default settings, which writes to disk in earnest. Only
// benchmarks start it.
var durable = pgtest.Cluster{Fsync: true}

// stores are what a server can be measured on.
var stores = []struct {
	name string
	open func(b *testing.B) store.Store
}{
	{"memory", func(*testing.B) store.Store { return memstore.New() }},
	{"bbolt", func(b *testing.B) store.Store {
		s, err := boltstore.Open(filepath.Join(b.TempDir(), "locks.db"), nil)
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, s.Close()) })
		return s
	}},
	{"PostgreSQL", func(b *testing.B) store.Store {
		s, err := pgstore.Open(b.Context(), durable.Database(b), nil)
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, s.Close()) })
		return s
	}},
}

// BenchmarkLoad is how often many clients, each with a connection and a name of its own, create a
// lock and delete it again, over loopback: on each store, beside what net/http, the disk and the
// database allow. An operation is such a round, the latencies are those of one request (of one
// sync, one statement).
//
//	go test -run '^$' -bench Load -benchtime 3s ./server
func BenchmarkLoad(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	b.Run("syncs", storetest.Syncs)
	for _, clients := range []int{1, 16, 64, 256} {
		of := fmt.Sprint("/clients=", clients)
		if clients < 200 { // connections that PostgreSQL accepts
			b.Run("pgbench"+of, func(
				b *testing.B) {
				storetest.Report(b, durable.Bench(b, clients), "rounds/s")
			})
		}
		b.Run("bare"+of, func(b *testing.B) { load(b, onLoopback(b, bare()), clients) })
		for _, st := range stores {
			b.Run(st.name+of, func(b *testing.B) { load(b, serve(b, st.open(b)), clients) })
		}
	}
}

// BenchmarkTurns is how often a lock changes hands when many clients want it all the time, each
// waiting on the server; and how long it takes from the delete to the answer to the next in line.
//
//	go test -run '^$' -bench Turns -benchtime 3s ./server
func BenchmarkTurns(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	for _, st := range stores {
		for _, clients := range []int{2, 16} {
			b.Run(fmt.Sprint(st.name, "/clients=", clients),
				func(b *testing.B) { turns(b, serve(b, st.open(b)), clients) })
		}
	}
}

// serve runs a server on the store, on loopback.
func serve(b *testing.B, st store.Store) *loopback {
	srv := server.New(st, server.WithAPIKeys(apiKey))
	ts := onLoopback(b, srv)
	b.Cleanup(func() { // before ts, which load closes, as a service does
		require.NoError(b, srv.Shutdown(context.Background()))
	})
	return ts
}

func load(b *testing.B, ts *loopback, clients int) {
	defer ts.Close()
	took := make([][]time.Duration, clients)
	each(clients, func(i int) func() {
		c := newClient(b, ts)
		name := fmt.Sprint("robot-arm-", i)
		c.delete(c.create(name)) // connections are not what is measured
		return func() {
			for range (b.N + i) / clients {
				began := time.Now()
				id := c.create(name)
				made := time.Now()
				c.delete(id)
				took[i] = append(took[i], made.Sub(began), time.Since(made))
			}
		}
	}, b.ResetTimer)
	b.StopTimer()
	storetest.Report(b, slices.Concat(took...), "rounds/s")
}

func turns(b *testing.B, ts *loopback, clients int) {
	defer ts.Close()
	var mu sync.Mutex
	var took []time.Duration // from the delete of one to the answer to another
	var released time.Time
	last, left := -1, 0
	shares := make([]int, clients)
	longest := make([]time.Duration, clients)
	each(clients, func(i int) func() {
		c := newClient(b, ts)
		c.delete(c.create(fmt.Sprint("robot-arm-", i)))
		return func() {
			for {
				asked := time.Now()
				id := c.create("robot-arm")
				now := time.Now()
				mu.Lock()
				if last >= 0 && last != i {
					took = append(took, now.Sub(released))
				}
				longest[i] = max(longest[i], now.Sub(asked))
				left--
				more := left >= 0
				if more {
					shares[i]++
				}
				last = i
				released = time.Now()
				mu.Unlock()
				c.delete(id)
				if !more {
					return
				}
			}
		}
	}, func() { left = b.N; b.ResetTimer() })
	b.StopTimer()
	if len(took) == 0 {
		return // a try with one operation
	}
	changes := float64(len(took)) / b.Elapsed().Seconds()
	storetest.Report(b, took, "turns/s")
	b.ReportMetric(changes, "changes/s")
	b.ReportMetric(100*float64(slices.Max(shares)-slices.Min(shares))*float64(clients)/float64(b.N),
		"%/uneven")
	b.ReportMetric(float64(slices.Max(longest).Microseconds())/1e3, "ms/longest-wait")
}

// each gets n callers ready, calls begin, and has them all go.
func each(n int, ready func(i int) (run func()), begin func()) {
	run := make([]func(), n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { run[i] = ready(i) })
	}
	wg.Wait()
	begin()
	for _, f := range run {
		wg.Go(f)
	}
	wg.Wait()
}

// BenchmarkHandler is a create and a delete without a network: what of a round is the server's own,
// and no part of net/http.
func BenchmarkHandler(b *testing.B) {
	srv := server.New(memstore.New(), server.WithAPIKeys(apiKey))
	defer srv.Shutdown(context.Background())
	const idAt, idLen = len(`{"id":"`), 36
	body := strings.NewReader("")
	w := &answer{header: http.Header{}}
	create := httptest.NewRequest("POST", "/v1/locks/", io.NopCloser(body))
	create.Header = http.Header{"X-Api-Key": {apiKey}, "Prefer": {"wait=30"}}
	remove := httptest.NewRequest("DELETE", "/v1/locks/"+nobody, nil)
	remove.Header = create.Header
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(`{"lock_name":"robot-arm-1","creator":"user@host/42 #k3v5x2m4q7ab"}`)
		create.ContentLength = body.Size()
		srv.ServeHTTP(w.reset(), create)
		remove.URL.Path = "/v1/locks/" + string(w.body[idAt:idAt+idLen])
		srv.ServeHTTP(w.reset(), remove)
		if w.status != 200 {
			b.Fatal(w.status, string(w.body))
		}
	}
}

// answer is an http.ResponseWriter that costs nothing.
type answer struct {
	header http.Header
	status int
	body   []byte
}

func (w *answer) Header() http.Header             { return w.header }
func (w *answer) WriteHeader(status int)          { w.status = status }
func (w *answer) SetReadDeadline(time.Time) error { return nil }
func (w *answer) Write(p []byte) (int, error) {
	w.body = append(w.body, p...)
	return len(p),
		nil
}

func (w *answer) reset() *answer {
	clear(w.header)
	w.body = w.body[:0]
	return w
}

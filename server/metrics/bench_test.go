package metrics

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// BenchmarkLock is what metrics cost: an uncontended Lock and Unlock over loopback, with locks in
// memory, in turn on a server without metrics and on one with. The figures are the medians, and how
// much the second exceeds the first.
//
//	go test -run '^$' -bench Lock -benchtime 20000x ./server/metrics
func BenchmarkLock(b *testing.B) {
	var mutexes [2]*relukko.Mutex
	for i := range mutexes {
		m := New(Config{})
		options := []server.Option{server.WithAPIKeys("key")}
		if i == 1 {
			options = append(options, server.WithObserver(m))
		}
		srv := server.New(memstore.New(), options...)
		m.Follow(srv.Stats)
		web := httptest.NewServer(srv)
		client, err := api.New(web.URL, "key")
		require.NoError(b, err)
		mutexes[i] = relukko.NewMutex(client, "bench-1")
		b.Cleanup(func() {
			require.NoError(b, client.Close())
			require.NoError(b, srv.Shutdown(context.Background()))
			web.Close()
		})
	}
	round := func(m *relukko.Mutex) {
		held, err := m.Lock(context.Background())
		require.NoError(b, err)
		require.NoError(b, m.Unlock(held))
	}
	for range 100 {
		round(mutexes[0])
		round(mutexes[1])
	}
	var took [2][]time.Duration
	for n := 0; b.Loop(); n++ {
		for i := range mutexes {
			i ^= n % 2 // neither is always the first
			began := time.Now()
			round(mutexes[i])
			took[i] = append(took[i], time.Since(began))
		}
	}
	var median [2]float64
	for i := range took {
		slices.Sort(took[i])
		median[i] = float64(took[i][len(took[i])/2].Nanoseconds()) / 1e3
	}
	b.ReportMetric(median[0], "µs/without")
	b.ReportMetric(median[1], "µs/with")
	b.ReportMetric(100*(median[1]/median[0]-1), "%more")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkScrape is a look at the metrics of a server with 10,000 locks, in memory.
func BenchmarkScrape(b *testing.B) {
	st := memstore.New()
	for i := range 10_000 {
		_, err := st.Create(context.Background(), store.NewLock{Name: fmt.Sprint("bench-", i),
			ID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), TTL: time.Hour})
		require.NoError(b, err)
	}
	m := New(Config{Names: []string{"bench-*"}})
	srv := server.New(st, server.WithObserver(m))
	defer srv.Shutdown(context.Background())
	m.Follow(srv.Stats)
	for b.Loop() {
		m.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	}
}

package server_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// BenchmarkHistory is what the history costs: a create and a delete by one client over loopback, in
// turn on a server without a history and on one with so many entries. The figures are the medians
// of the two, and how much the second exceeds the first. A history that is full is pruned, too.
//
//	go test -run '^$' -bench History -benchtime 3000x ./server
func BenchmarkHistory(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	for _, st := range stores {
		for _, n := range []int{0, 1000, 1_000_000} {
			b.Run(fmt.Sprint(st.name, "/entries=", n), func(b *testing.B) {
				without := st.open(b)
				use(b, without, min(n, 1000))
				besideNone(b, without, filled(b, st.name, st.open, n), max(n, 1000))
			})
		}
	}
}

// besideNone measures the store with a history of at most so many entries beside one without.
func besideNone(b *testing.B, without, with store.Store, most int) {
	clients := [2]*benchClient{}
	for i, st := range []store.Store{without, with} {
		srv := server.New(st, server.WithAPIKeys(apiKey), server.WithHistory(time.Hour, i*most))
		b.Cleanup(func() { require.NoError(b, srv.Shutdown(context.Background())) })
		ts := onLoopback(b, srv)
		b.Cleanup(ts.Close)
		clients[i] = newClient(b, ts)
		for range 10 {
			clients[i].round()
		}
	}
	took := [2][]time.Duration{}
	for n := 0; b.Loop(); n++ {
		for i := range clients {
			i ^= n % 2 // neither is always the first
			began := time.Now()
			clients[i].round()
			took[i] = append(took[i], time.Since(began))
		}
	}
	median := [2]float64{}
	for i := range took {
		slices.Sort(took[i])
		median[i] = float64(took[i][len(took[i])/2].Nanoseconds()) / 1e3
	}
	b.ReportMetric(median[0], "µs/without")
	b.ReportMetric(median[1], "µs/with")
	b.ReportMetric(100*(median[1]/median[0]-1), "%more")
	b.ReportMetric(0, "ns/op")
}

// filled returns a store with so many entries in its history.
func filled(b *testing.B, kind string, open func(*testing.B) store.Store, n int) store.Store {
	limits := store.HistoryLimits{Age: time.Hour, Max: max(n, 1)}
	if kind == "PostgreSQL" {
		return filledPostgres(b, n)
	}
	st := open(b)
	st.KeepHistory(limits)
	use(b, st, n)
	return st
}

// use creates and deletes n locks.
func use(b *testing.B, st store.Store, n int) {
	clients := 1000
	if _, ok := st.(*memstore.Store); ok {
		clients = 1
	}
	creator := "user@host/42 (a reason) #k3v5x2m4q7ab"
	each(clients, func(c int) func() {
		return func() {
			for i := c; i < n; i += clients {
				id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
				_, err := st.Create(context.Background(), store.NewLock{ID: id, Creator: &creator,
					Name: fmt.Sprint("robot-arm-", c), IP: "192.0.2.7", TTL: time.Hour})
				if err == nil {
					_, err = st.Delete(context.Background(), id, store.Ending{})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		}
	}, func() {})
}

func filledPostgres(b *testing.B, n int) store.Store {
	url := durable.Database(b)
	s, err := pgstore.Open(b.Context(), url, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	conn, err := pgx.Connect(b.Context(), url)
	require.NoError(b, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(b.Context(), `INSERT INTO relukko_go.history (id, name, creator, ip,
		expires_at, created_at, updated_at, token, owner, waited, ended_at, how, by_key, reason)
		SELECT gen_random_uuid(), 'robot-arm-' || i % 1000, 'user@host/42 (a reason) #k3v5x2m4q7ab',
			'192.0.2.7', t, t, t, i, 'default', '0', t, 'released', 'default', ''
		FROM (SELECT i, clock_timestamp() AS t FROM generate_series(1, $1::int) AS i) AS rows`, n)
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), `VACUUM ANALYZE relukko_go.history`)
	require.NoError(b, err)
	return s
}

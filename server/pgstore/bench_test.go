package pgstore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

// durable is a PostgreSQL that writes to disk in earnest.
var durable = pgtest.Cluster{Fsync: true}

// BenchmarkRounds is how often many clients, each with a name of its own, create a lock and delete
// it again: through the Store of a server that is alone on its database, of one that has to tell
// another, and by pgbench, which says what this database on this disk allows. An operation is one
// round; the latencies are those of one create or delete.
//
//	go test -run '^$' -bench Rounds -benchtime 5s ./server/pgstore
func BenchmarkRounds(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("alone/clients=", clients),
			func(b *testing.B) { storeRounds(b, clients, 1) })
		b.Run(fmt.Sprint("two/clients=", clients),
			func(b *testing.B) { storeRounds(b, clients, 2) })
		b.Run(fmt.Sprint("pgbench/clients=", clients),
			func(b *testing.B) { storetest.Report(b, durable.Bench(b, clients), "rounds/s") })
	}
}

// BenchmarkHandoff is a lock going from a client of one server to a client of another, each waiting
// on its server.
func BenchmarkHandoff(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	b.Run("two", func(b *testing.B) {
		nodes := startNodesOn(b, durable.Database(b), 2)
		var wg sync.WaitGroup
		var handed atomic.Int64
		for _, n := range nodes {
			wg.Go(func() {
				for handed.Add(1) <= int64(b.N) {
					n.delete(n.create(context.Background(), "robot-arm-1", 30).ID)
				}
			})
		}
		wg.Wait()
	})
}

// watch hears the others, and makes nothing of it.
func watch(b *testing.B, s *pgstore.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Watch(ctx, func(store.Event) {}) })
	b.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	require.Eventually(b, s.Listens, soon, time.Millisecond)
}

func storeRounds(b *testing.B, clients, servers int) {
	url := durable.Database(b)
	s := open(b, url)
	watch(b, s)
	if servers > 1 {
		watch(b, open(b, url))
		require.Eventually(b, s.Heeded, soon, time.Millisecond)
	}
	creator := "user@host/42 #k3v5x2m4q7ab"
	round := func(client int) (create, remove time.Duration) {
		in := store.NewLock{ID: newID(), Name: fmt.Sprint("lock-", client), Creator: &creator,
			IP: "192.0.2.7", TTL: time.Minute}
		in.Mark = fmt.Sprint("mark-", client)
		began := time.Now()
		if _, err := s.Create(context.Background(), in); err != nil {
			b.Error(err)
		}
		made := time.Now()
		if _, err := s.Delete(context.Background(), in.ID, store.Ending{}); err != nil {
			b.Error(err)
		}
		return made.Sub(began), time.Since(made)
	}
	var wg sync.WaitGroup
	for c := range clients { // connections are not what is measured
		wg.Go(func() { round(c) })
	}
	wg.Wait()

	b.ResetTimer()
	took := make([][]time.Duration, clients)
	for c := range clients {
		wg.Go(func() {
			for range (b.N + clients - 1) / clients {
				create, remove := round(c)
				took[c] = append(took[c], create, remove)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	storetest.Report(b, slices.Concat(took...), "rounds/s")
}

func newID() string {
	id := pgtype.UUID{Valid: true}
	rand.Read(id.Bytes[:])
	return id.String()
}

// BenchmarkHandOver is a lock that is handed over from waiter to waiter of one server.
func BenchmarkHandOver(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	b.Run("alone", func(b *testing.B) {
		s := open(b, durable.Database(b))
		watch(b, s)
		held := create(b, s, newLock("robot-arm-1"))
		b.ResetTimer()
		for range b.N {
			in := queuedLock("robot-arm-1")
			in.Mark = in.ID
			both, err := s.HandOver(context.Background(), held.ID, store.Ending{}, in)
			require.NoError(b, err)
			require.NoError(b, both.CreateErr)
			held = both.Created
		}
	})
}

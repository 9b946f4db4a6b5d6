package boltstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

// BenchmarkRound is a create and a delete, by each of so many clients, with a name of its own. An
// iteration is one such round. The store is in TMPDIR, like the file of BenchmarkSync.
func BenchmarkRound(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			s := open(b, newPath(b))
			commits := s.CountCommits()
			took := make([][]time.Duration, clients)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					for range (b.N + c) / clients {
						began := time.Now()
						lock, err := s.Create(
							context.Background(), newLock(fmt.Sprint("robot-arm-", c)))
						if err == nil {
							took[c] = append(took[c], time.Since(began))
							began = time.Now()
							_, err = s.Delete(context.Background(), lock.ID, store.Ending{})
							took[c] = append(took[c], time.Since(began))
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			storetest.Report(b, slices.Concat(took...), "rounds/s")
			b.ReportMetric(float64(commits())/float64(b.N), "commits/op")
		})
	}
}

// BenchmarkSync is what the disk allows. A transaction has two syncs, and a round at least two
// transactions when nobody else has any.
func BenchmarkSync(b *testing.B) { storetest.Syncs(b) }

// BenchmarkOpen is the time until a store with that many locks can be used.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, 1000, 100_000} {
		b.Run(fmt.Sprint("locks=", n), func(b *testing.B) {
			path := newPath(b)
			s := open(b, path)
			var wg sync.WaitGroup
			for c := range 100 {
				wg.Go(func() {
					for i := range n / 100 {
						if _, err := s.Create(context.Background(),
							newLock(fmt.Sprint("robot-arm-", c, "-", i))); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			require.NoError(b, s.Close())
			for b.Loop() {
				s, err := boltstore.OpenWith(path)
				require.NoError(b, err)
				require.NoError(b, s.Close())
			}
		})
	}
}

package storetest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Syncs measures what the disk allows: one page is overwritten and synced, the least that makes
// anything durable.
func Syncs(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	var took []time.Duration
	for b.Loop() {
		page[0]++
		began := time.Now()
		if _, err := f.WriteAt(page, 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	Report(b, took, "syncs/s")
}

// Report has a benchmark tell how many operations it did in a second, under that name, and how long
// those took that are given: each an operation, or a part of one.
func Report(b *testing.B, took []time.Duration, perSecond string) {
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), perSecond)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "µs/median")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "µs/p99")
	b.ReportMetric(0, "ns/op")
}

package boltstore_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestARestoredBackupHasItsHistory: a copy of the file has what had ended by then, and so has the
// file when it is opened again.
func TestARestoredBackupHasItsHistory(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	s.KeepHistory(keepAll)
	populate(t, s, 50)
	backedUp := historyOf(t, s)
	require.Len(t, backedUp, 20)
	image, err := os.ReadFile(path) // between two transactions
	require.NoError(t, err)
	populate(t, s, 0)
	remove(t, s, create(t, s, "the last").ID)
	all := historyOf(t, s)
	require.Equal(t, backedUp, all[1:])
	require.NoError(t, s.Close())

	s = open(t, path)
	s.KeepHistory(keepAll)
	require.Equal(t, all, historyOf(t, s))
	require.NoError(t, s.Close())

	require.NoError(t, os.WriteFile(path, image, 0o600))
	s = open(t, path)
	s.KeepHistory(keepAll)
	require.Equal(t, backedUp, historyOf(t, s))
	remove(t, s, create(t, s, "the next").ID)
	require.Equal(t, backedUp, historyOf(t, s)[1:])
}

// TestTheHistoryCostsNoSync: as many transactions as without it, also where entries are removed.
func TestTheHistoryCostsNoSync(t *testing.T) {
	t.Parallel()
	s := open(t, newPath(t))
	s.KeepHistory(store.HistoryLimits{Age: time.Hour, Max: 10})
	commits := s.CountCommits()
	for i := range 1000 {
		remove(t, s, create(t, s, fmt.Sprint(i)).ID)
	}
	require.Equal(t, 2000, commits())
	n := len(historyOf(t, s))
	require.GreaterOrEqual(t, n, 10)
	require.Less(t, n, 10+256)
}

// TestEntriesHaveTheirOrderWhenTheClockIsSetBack, and none is lost because two have one time.
func TestEntriesHaveTheirOrderWhenTheClockIsSetBack(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	path := newPath(t)
	clock := boltstore.WithClock(func() time.Time { return now })
	s := open(t, path, clock)
	s.KeepHistory(keepAll)
	for i := range 10 {
		remove(t, s, create(t, s, fmt.Sprint(i)).ID)
		if i == 4 {
			require.NoError(t, s.Close())
			now = now.Add(-time.Hour)
			s = open(t, path, clock)
			s.KeepHistory(keepAll)
		}
	}
	all := historyOf(t, s)
	require.Len(t, all, 10)
	for i, e := range all {
		require.Equal(t, fmt.Sprint(9-i), e.Name)
	}
}

// TestALostEntryIsNoticed, and one that was changed.
func TestALostEntryIsNoticed(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	s.KeepHistory(keepAll)
	populate(t, s, 10)
	s.Checkpoint()
	require.NoError(t, s.Close())
	edit := func(do func(b *bolt.Bucket, key, value []byte) error) {
		db, err := bolt.Open(path, 0, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("history"))
			key, value := b.Cursor().First()
			return do(b, key, append([]byte(nil), value...))
		}))
		require.NoError(t, db.Close())
	}
	edit(func(b *bolt.Bucket, key, value []byte) error {
		value[10] ^= 1
		return b.Put(key, value)
	})
	_, err := boltstore.OpenWith(path)
	require.ErrorContains(t, err, "it is damaged (history ")
	edit(func(b *bolt.Bucket, key, _ []byte) error { return b.Delete(key) })
	_, err = boltstore.OpenWith(path)
	require.ErrorContains(t, err,
		"it is damaged (the history has 3 entries, where 4 should be)")
}

// TestTheHistoryCostsFewPages: a round is two pages, and a tenth of one for checkpoints, or with
// the history half a page.
func TestTheHistoryCostsFewPages(t *testing.T) {
	t.Parallel()
	for limits, most := range map[store.HistoryLimits]float64{
		{}:                         2.1,
		{Age: time.Hour, Max: 300}: 2.5,
	} {
		s := open(t, newPath(t))
		s.KeepHistory(limits)
		rounds := func(n int) {
			for i := range n {
				remove(t, s, create(t, s, fmt.Sprint(i)).ID)
			}
		}
		rounds(600)
		written := 0
		s.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
			written += len(page)
			return write(page, at)
		})
		rounds(600)
		t.Log(float64(written) / 600 / float64(s.PageSize()))
		require.LessOrEqual(t, float64(written)/600/float64(s.PageSize()), most)
	}
}

package boltstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

func TestDumps(t *testing.T) {
	t.Parallel()
	storetest.RunDumps(t,
		func(t *testing.T) store.Store {
			t.Parallel()
			return open(t, newPath(t))
		},
		func(t *testing.T, c *store.Content) store.Store {
			path := newPath(t)
			require.NoError(t, boltstore.Load(path, c))
			return open(t, path)
		})
}

// ended yields n entries of the history, and then the error.
func ended(n int, at func(i int) time.Time, err error) func(func(store.Ended, error) bool) {
	return func(yield func(store.Ended, error) bool) {
		for i := range n {
			e := store.Ended{Lock: store.Lock{ID: newID(), Name: "robot-arm-1"}, At: at(i)}
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Ended{}, err)
		}
	}
}

// TestALoadIsWholeOrNothing: an error of the content, which comes late, leaves no file.
func TestALoadIsWholeOrNothing(t *testing.T) {
	path := newPath(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	broken := errors.New("a checksum is wrong")
	each := func(i int) time.Time { return now.Add(time.Duration(i) * time.Microsecond) }
	err := boltstore.Load(path, &store.Content{Token: 7, History: ended(30_000, each, broken)})
	require.ErrorIs(t, err, broken)
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, files)

	require.NoError(t, boltstore.Load(path, &store.Content{
		Token: 7, History: ended(30_000, each, nil),
	}))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	err = boltstore.Load(path, &store.Content{History: ended(0, each, nil)})
	require.ErrorContains(t, err, "there is a file already, and it was left as it is")
	s := open(t, path)
	s.KeepHistory(keepAll)
	require.Len(t, historyOf(t, s), 30_000)
}

// TestALoadRefusesContentThatCannotBe: two locks of one name, or a token that is yet to come.
func TestALoadRefusesContentThatCannotBe(t *testing.T) {
	lock := store.Record{Lock: store.Lock{ID: newID(), Name: "arm", FencingToken: 7}}
	other := store.Record{Lock: store.Lock{ID: newID(), Name: "arm", FencingToken: 8}}
	none := ended(0, nil, nil)
	path := newPath(t)
	err := boltstore.Load(path, &store.Content{
		Token: 9, Locks: []store.Record{lock, other}, History: none,
	})
	require.ErrorContains(t, err, `lock "arm" is in it twice`)
	err = boltstore.Load(path, &store.Content{
		Token: 6, Locks: []store.Record{lock}, History: none,
	})
	require.ErrorContains(t, err, `lock "arm" has fencing token 7, the last one is 6`)
	require.NoFileExists(t, path)
}

// TestEntriesThatEndedTogether, as PostgreSQL has them, keep their order.
func TestEntriesThatEndedTogether(t *testing.T) {
	path := newPath(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	require.NoError(t, boltstore.Load(path, &store.Content{
		History: ended(3, func(int) time.Time { return now }, nil),
	}))
	s := open(t, path)
	s.KeepHistory(keepAll)
	history := historyOf(t, s)
	require.Len(t, history, 3)
	require.Equal(t, now.Add(2*time.Microsecond), history[0].At)
	require.Equal(t, now, history[2].At)
}

// TestADumpKeepsTheFileSmall: one that waits for a slow reader does not keep the pages that are
// changed meanwhile.
func TestADumpKeepsTheFileSmall(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	s.KeepHistory(store.HistoryLimits{Age: time.Hour, Max: 100})
	churn := func() {
		for range 300 {
			remove(t, s, create(t, s, "robot-arm-1").ID)
		}
	}
	churn()
	churn()
	before, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, s.Dump(t.Context(), func(c *store.Content) error {
		churn()
		for _, err := range c.History {
			if err != nil {
				return err
			}
			churn()
			break
		}
		return nil
	}))
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.LessOrEqual(t, after.Size(), 2*before.Size())
}

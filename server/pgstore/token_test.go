package pgstore_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestTokensRise when the schema is dropped, an old backup is restored, the clock was set back, and
// when a bench moves from a file to PostgreSQL.
func TestTokensRise(t *testing.T) {
	file, err := boltstore.Open(filepath.Join(t.TempDir(), "locks.db"), nil)
	require.NoError(t, err)
	lock, err := file.Create(t.Context(), newLock("robot-arm-1"))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	last := lock.FencingToken

	url := empty(t)
	s := open(t, url)
	rises := func(what string) {
		t.Helper()
		lock := create(t, s, newLock("robot-arm-1"))
		require.Greater(t, lock.FencingToken, last, what)
		last = lock.FencingToken
		remove(t, s, lock.ID)
	}
	rises("moved")
	sql(t, url, `DROP SCHEMA relukko_go CASCADE`)
	s = open(t, url)
	rises("dropped")
	sql(t, url, `SELECT setval('relukko_go.tokens', 7)`)
	rises("restored")
	last += 1 << 40
	sql(t, url, `SELECT setval('relukko_go.tokens', $1)`, last)
	first := last
	rises("set back")
	rises("set back")
	require.Equal(t, first+2, last, "each is the last one + 1")
}

// TestTokensAreDrawnOnce, whatever is created at the same time.
func TestTokensAreDrawnOnce(t *testing.T) {
	stores, _ := openThree(t)
	locks := make(chan store.Lock, 8*20)
	concurrently(8, func(i int) {
		for range 20 {
			in := newLock("robot-arm-" + string(rune('a'+i)))
			lock, err := stores[i%3].Create(t.Context(), in)
			if err == nil {
				locks <- lock
				_, err = stores[i%3].Delete(t.Context(), lock.ID, store.Ending{})
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	close(locks)
	seen := map[uint64]bool{}
	for lock := range locks {
		require.False(t, seen[lock.FencingToken])
		require.GreaterOrEqual(t, lock.FencingToken, uint64(lock.CreatedAt.UnixMicro()))
		seen[lock.FencingToken] = true
	}
}

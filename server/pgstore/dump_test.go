package pgstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

func TestDumps(t *testing.T) {
	t.Parallel()
	storetest.RunDumps(t,
		func(t *testing.T) store.Store {
			t.Parallel()
			return open(t, empty(t))
		},
		func(t *testing.T, c *store.Content) store.Store {
			url := postgres.Database(t)
			require.NoError(t, pgstore.Load(t.Context(), url, c))
			return open(t, url)
		})
}

// nothing is the content of a store that was never used.
func nothing() *store.Content {
	return &store.Content{History: func(func(store.Ended, error) bool) {}}
}

func refuse(*store.Content) error { return errors.New("it was dumped") }

// TestACopyExcludesServers, and servers a copy.
func TestACopyExcludesServers(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s, err := pgstore.Open(t.Context(), url+"&pool_max_conns=5", nil)
	require.NoError(t, err)
	require.NoError(t, s.Ping(t.Context()))
	const inUse = "a server is using the store in this database: stop all of them first"
	require.ErrorContains(t, pgstore.Dump(t.Context(), url, refuse), inUse)
	require.ErrorContains(t, pgstore.Load(t.Context(), url, nothing()), inUse)
	require.NoError(t, s.Close())

	require.NoError(t, pgstore.Dump(t.Context(), url, func(*store.Content) error {
		_, err := pgstore.Open(t.Context(), url, nil)
		require.ErrorIs(t, err, store.ErrUnavailable, "it is waited for")
		require.ErrorContains(t, err, "relukko restore or relukko move is using the store")
		return nil
	}))
	open(t, url)
}

// TestALoadIsWholeOrNothing: an error of the content, which comes late, leaves nothing.
func TestALoadIsWholeOrNothing(t *testing.T) {
	url := empty(t)
	broken := errors.New("a checksum is wrong")
	c := nothing()
	c.Locks = []store.Record{{Lock: store.Lock{ID: newID(), Name: "arm", FencingToken: 7}}}
	c.History = func(yield func(store.Ended, error) bool) { yield(store.Ended{}, broken) }
	require.Equal(t, broken, pgstore.Load(t.Context(), url, c))
	c.History = nothing().History
	require.NoError(t, pgstore.Load(t.Context(), url, c), "it is still empty")
	err := pgstore.Load(t.Context(), url, nothing())
	require.ErrorContains(t, err, "the store in this database is not empty, and was left as it is")
}

// TestADumpOfNothing: a database without a store may be the wrong one.
func TestADumpOfNothing(t *testing.T) {
	url := empty(t)
	err := pgstore.Dump(context.Background(), url, refuse)
	require.ErrorContains(t, err, "it has no schema relukko_go")
	var there bool
	query(t, url, &there, `SELECT to_regnamespace('relukko_go') IS NOT NULL`)
	require.False(t, there)
}

package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

func waiter(name string) store.Waiter {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	return store.Waiter{
		Names: []string{name, `<"ä 🤖">`}, Creator: new("bench-7"), IP: "192.0.2.7", Owner: owner,
		Priority: -10, Since: at, Rank: at.Add(100 * time.Minute),
	}
}

func publish(t *testing.T, s *pgstore.Store, waiters ...store.Waiter) {
	t.Helper()
	require.NoError(t, s.Publish(t.Context(), waiters))
}

func requirePublished(t *testing.T, s *pgstore.Store, want ...store.Waiter) {
	t.Helper()
	got, err := s.Published(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
}

// TestEachServerSeesTheWaitersOfTheOthers that were published last.
func TestEachServerSeesTheWaitersOfTheOthers(t *testing.T) {
	t.Parallel()
	stores, url := openThree(t)
	requirePublished(t, stores[0])
	one, two, three := waiter("one"), waiter("two"), waiter("three")
	three.Creator, three.Since = nil, three.Since.AddDate(0, 0, -30)
	publish(t, stores[0], one, two)
	publish(t, stores[1], three)
	requirePublished(t, stores[0], three)
	requirePublished(t, stores[1], one, two)
	requirePublished(t, stores[2], one, two, three)
	publish(t, stores[0], two)
	requirePublished(t, stores[2], two, three)
	publish(t, stores[0])
	requirePublished(t, stores[2], three)
	publish(t, stores[0], one)

	// A server that is silent for 10 s is ignored, then deleted.
	silent := func(seconds float64) {
		sql(t, url, `UPDATE relukko_go.board SET heard = clock_timestamp()
			- $1 * interval '1 second' WHERE waiters LIKE '%three%'`, seconds)
	}
	rows := func() (n int) {
		_, err := stores[0].Sweep(t.Context(), store.Limits{})
		require.NoError(t, err)
		query(t, url, &n, `SELECT count(*) FROM relukko_go.board`)
		return n
	}
	silent(1)
	requirePublished(t, stores[2], one, three)
	require.Equal(t, 2, rows())
	silent(10)
	requirePublished(t, stores[2], one)
	require.Equal(t, 1, rows())
	publish(t, stores[1], two)
	requirePublished(t, stores[2], one, two)
	require.NoError(t, stores[0].Close())
	requirePublished(t, stores[2], two)
}

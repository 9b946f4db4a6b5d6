package pgstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestNotificationsDoNotArrive: Open says so, and what to do about it.
func TestNotificationsDoNotArrive(t *testing.T) {
	t.Parallel()
	p := through(t, postgres.Database(t))
	p.Mute()
	_, err := pgstore.Open(t.Context(), p.url, nil)
	require.ErrorContains(t, err, "pool_mode = session")
	require.False(t, errors.Is(err, store.ErrUnavailable), "it will not go away")
}

// limitedRole makes a role and returns its URL.
func limitedRole(t *testing.T, url, role string) string {
	t.Helper()
	sql(t, url, fmt.Sprintf(`CREATE ROLE %s LOGIN`, role))
	t.Cleanup(func() {
		sql(t, url, `DROP SCHEMA IF EXISTS relukko_go CASCADE`)
		sql(t, url, fmt.Sprintf(`DROP OWNED BY %s; DROP ROLE %s`, role, role))
	})
	sql(t, url, fmt.Sprintf(`GRANT CREATE ON DATABASE %q TO %s`,
		strings.SplitN(strings.SplitN(url, "///", 2)[1], "?", 2)[0], role))
	return strings.Replace(url, "user=postgres", "user="+role, 1)
}

// rounds creates and deletes with many at a time, and fails on the first error.
func rounds(t *testing.T, s *pgstore.Store) {
	t.Helper()
	concurrently(32, func(i int) {
		for range 10 {
			lock, err := s.Create(t.Context(), newLock(fmt.Sprint("lock ", i)))
			if err == nil {
				_, err = s.Delete(t.Context(), lock.ID, store.Ending{})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
}

// TestARoleWithFewConnections: calls wait for a free one, and the server hears the others.
func TestARoleWithFewConnections(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			url := postgres.Database(t)
			role := limitedRole(t, url, fmt.Sprint("few", limit))
			sql(t, url, fmt.Sprintf(`ALTER ROLE few%d CONNECTION LIMIT %d`, limit, limit))
			s, err := pgstore.Open(t.Context(), role, nil)
			require.NoError(t, err)
			defer s.Close()
			require.Equal(t, max(1, limit-2), s.MaxConns(), "two are beside the pool")
			if limit >= 3 {
				listen(t, s)
			}
			rounds(t, s)
		})
	}
}

// TestTheConnectionsBecomeFew while the store is open, or others use them up.
func TestTheConnectionsBecomeFew(t *testing.T) {
	t.Parallel()
	url := postgres.Database(t)
	role := limitedRole(t, url, "fewer")
	s, err := pgstore.Open(t.Context(), role, nil)
	require.NoError(t, err)
	defer s.Close()
	sql(t, url, `ALTER ROLE fewer CONNECTION LIMIT 3`)
	rounds(t, s)
	listen(t, s)
	rounds(t, s)
}

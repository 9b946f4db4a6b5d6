package pgstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// TestManyLists leave connections for other calls: a locked table keeps them from being answered,
// and meanwhile locks are created.
func TestManyLists(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := open(t, url)
	s.KeepHistory(store.HistoryLimits{Age: time.Hour, Max: 1000})
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE relukko_go.history IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	errs := make(chan error, 100)
	for range cap(errs) {
		go func() {
			_, err := s.History(context.Background(), store.HistoryQuery{Limit: 10})
			errs <- err
		}()
	}
	require.Eventually(t, func() bool {
		var waiting int
		query(t, url, &waiting, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'relation'`)
		return waiting == s.MaxConns()/4
	}, 10*time.Second, time.Millisecond)
	for _, name := range []string{"a", "b", "c"} {
		create(t, s, newLock(name))
	}
	refused := 0
	for range cap(errs) - s.MaxConns()/4 {
		if err := <-errs; errors.Is(err, store.ErrUnavailable) && errors.Is(err, store.ErrNotDone) {
			refused++
		}
	}
	require.Greater(t, refused, cap(errs)/2)
	require.NoError(t, tx.Rollback(t.Context()))
	for range s.MaxConns() / 4 {
		<-errs
	}
	_, err = s.History(t.Context(), store.HistoryQuery{Limit: 10})
	require.NoError(t, err)
}

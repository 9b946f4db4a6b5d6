package pgstore_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/overlap"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

// soon is for what takes milliseconds, on a machine that is busy.
const soon = 15 * time.Second

var postgres pgtest.Cluster

func TestMain(m *testing.M) {
	overlap.Tests("4")
	goleak.VerifyTestMain(postgres.Main(m))
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Parallel()
		return open(t, empty(t))
	})
}

func open(t testing.TB, url string) *pgstore.Store {
	t.Helper()
	return openWithLog(t, url, nil)
}

func openWithLog(t testing.TB, url string, log *slog.Logger) *pgstore.Store {
	t.Helper()
	if _, measured := t.(*testing.B); !measured {
		// Each is a process that has to be started; and so they are waited for, too.
		url += "&pool_max_conns=5"
	}
	s, err := pgstore.Open(context.Background(), url, log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// openThree answers three stores on one database, and its URL.
func openThree(t testing.TB) ([]*pgstore.Store, string) {
	t.Helper()
	url := empty(t)
	return openThreeOn(t, url), url
}

func openThreeOn(t testing.TB, url string) []*pgstore.Store {
	t.Helper()
	return []*pgstore.Store{open(t, url), open(t, url), open(t, url)}
}

// empty returns the URL of a database without a schema of ours.
func empty(t testing.TB) string {
	t.Helper()
	url := postgres.Shared(t)
	sql(t, url, `DROP SCHEMA IF EXISTS relukko_go CASCADE`)
	return url
}

const owner = "ci-runner" // of newLock

func newLock(name string) store.NewLock {
	return store.NewLock{
		ID: newID(), Name: name, IP: "192.0.2.7", TTL: time.Minute, Owner: owner,
	}
}

func create(t testing.TB, s *pgstore.Store, in store.NewLock) store.Lock {
	t.Helper()
	lock, err := s.Create(context.Background(), in)
	require.NoError(t, err)
	return lock
}

func remove(t testing.TB, s *pgstore.Store, id string) {
	t.Helper()
	_, err := s.Delete(context.Background(), id, store.Ending{})
	require.NoError(t, err)
}

// sql runs a statement round all stores.
func sql(t testing.TB, url, statement string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(context.Background(), statement, args...)
	require.NoError(t, err)
}

// ear hears what a store's Watch says.
type ear struct {
	t      testing.TB
	events chan store.Event
}

// listen begins to watch, and returns when the store hears the others.
func listen(t testing.TB, s *pgstore.Store) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e := &ear{t, make(chan store.Event, 1000)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Watch(ctx, func(event store.Event) { e.events <- event }) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	require.Equal(t, store.EventMissed, e.next().Kind)
	return e
}

func (e *ear) next() store.Event {
	e.t.Helper()
	select {
	case event := <-e.events:
		return event
	case <-time.After(soon):
		require.Fail(e.t, "nothing is heard")
		return store.Event{}
	}
}

// until answers the next event of that kind.
func (e *ear) until(kind store.EventKind) store.Event {
	e.t.Helper()
	for {
		if event := e.next(); event.Kind == kind {
			return event
		}
	}
}

func concurrently(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// query asks for one value round all stores.
func query(t testing.TB, url string, into any, statement string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.QueryRow(context.Background(), statement, args...).Scan(into))
}

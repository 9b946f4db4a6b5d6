package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// version1 is a program of version 1: its statements, on one connection.
type version1 struct {
	t    *testing.T
	conn *pgx.Conn
}

// newVersion1 makes the schema of version 1 in an empty database.
func newVersion1(t *testing.T, url string) *version1 {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), `CREATE SCHEMA relukko_go;
		CREATE TABLE relukko_go.version (version integer NOT NULL);
		INSERT INTO relukko_go.version VALUES (1);`+pgstore.Version1)
	require.NoError(t, err)
	return &version1{t, conn}
}

const v1Fields = `(lock).id::text, (lock).name, (lock).expires_at, (lock).updated_at`

func (v *version1) scan(statement string, args ...any) (lock store.Lock) {
	v.t.Helper()
	row := v.conn.QueryRow(v.t.Context(), statement, args...)
	require.NoError(v.t, row.Scan(&lock.ID, &lock.Name, &lock.ExpiresAt, &lock.UpdatedAt))
	return lock
}

func (v *version1) create(name string) store.Lock {
	v.t.Helper()
	return v.scan(`SELECT `+v1Fields+` FROM relukko_go.create_lock($1, $2, $3, $4, $5, $6, $7, $8)`,
		newID(), name, nil, "192.0.2.7", time.Minute, nil, time.Duration(0), int64(1))
}

func (v *version1) update(id string, lease time.Duration) store.Lock {
	v.t.Helper()
	return v.scan(`UPDATE relukko_go.locks l SET
		creator = coalesce($2, l.creator), updated_at = clock.now,
		expires_at = coalesce($3, clock.now + $4, l.expires_at + $5)
		FROM (SELECT clock_timestamp() AS now) clock WHERE l.id = $1
		RETURNING id::text, name, expires_at, updated_at`, id, nil, nil, lease, time.Duration(0))
}

// rows returns the ids of the locks that a function of version 1 returns.
func (v *version1) rows(function string, args ...any) []string {
	v.t.Helper()
	rows, _ := v.conn.Query(v.t.Context(), `SELECT id::text FROM relukko_go.`+function, args...)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(v.t, err)
	return ids
}

func (v *version1) everything(name string) {
	v.t.Helper()
	lock := v.create(name)
	require.Equal(v.t, name, lock.Name)
	lock = v.update(lock.ID, time.Hour)
	require.Equal(v.t, time.Hour, lock.ExpiresAt.Sub(lock.UpdatedAt))
	require.Equal(v.t, []string{lock.ID}, v.rows(`find_created($1, $2)`, lock.ID, name))
	require.Empty(v.t, v.rows(`call_off($1, $2)`, "k3v5x2m4q7ab", time.Duration(0)))
	v.update(lock.ID, -2*time.Hour)
	require.Equal(v.t, []string{lock.ID}, v.rows(`sweep($1, $2)`, time.Hour, 10))
}

// TestVersion1IsMigrated while a program of version 1 uses the database, and goes on to.
func TestVersion1IsMigrated(t *testing.T) {
	url := postgres.Database(t)
	old := newVersion1(t, url)
	for range 7 { // more than PostgreSQL plans anew
		old.everything("before")
	}
	kept := old.create("kept")
	s := open(t, url)
	var version int
	query(t, url, &version, `SELECT version FROM relukko_go.version`)
	require.Equal(t, 2, version)
	for range 7 {
		old.everything("after")
	}

	got, err := s.Get(t.Context(), kept.ID)
	require.NoError(t, err)
	require.True(t, got.ExpiresAt.Equal(kept.ExpiresAt))
	limits := store.Limits{Grace: time.Hour, Latest: time.Now().AddDate(1, 0, 0),
		Steady: time.Hour}
	old.update(kept.ID, -time.Minute)
	swept, err := s.Sweep(t.Context(), limits)
	require.NoError(t, err)
	require.Empty(t, swept.Locks, "what is kept is not leased")

	in := newLock("leased")
	in.Leased = true
	leased := create(t, s, in)
	var lease time.Duration
	const get = `SELECT lease FROM relukko_go.locks WHERE id = $1`
	query(t, url, &lease, get, leased.ID)
	require.Equal(t, in.TTL, lease)
	old.update(leased.ID, 50*time.Second)
	query(t, url, &lease, get, leased.ID)
	require.Equal(t, 50*time.Second, lease, "a renewal by version 1 sets the lease")
	require.Equal(t, []string{leased.ID}, old.rows(`find_created($1, $2)`, leased.ID, in.Name))
	old.update(leased.ID, -time.Hour)
	swept, err = s.Sweep(t.Context(), limits)
	require.NoError(t, err)
	require.Len(t, swept.Locks, 1, "and does not end that it is leased")
	require.Equal(t, leased.ID, swept.Locks[0].ID)
}

// TestSeveralMigrateAtOnce: one of them does, the others wait.
func TestSeveralMigrateAtOnce(t *testing.T) {
	url := postgres.Database(t)
	old := newVersion1(t, url)
	concurrently(4, func(int) {
		s, err := pgstore.Open(context.Background(), url, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	old.everything("robot-arm-1")
}

// TestLeaseGraceInSQL is the one of package store.
func TestLeaseGraceInSQL(t *testing.T) {
	url := empty(t)
	open(t, url)
	for _, lease := range []time.Duration{
		-time.Hour, 0, time.Second, 10 * time.Second, 10*time.Second + 10*time.Microsecond,
		time.Minute, 100 * time.Second, 365 * 24 * time.Hour,
	} {
		var grace time.Duration
		query(t, url, &grace, `SELECT relukko_go.lease_grace($1)`, lease)
		require.Equal(t, store.LeaseGrace(lease), grace, lease)
	}
	s := open(t, url)
	in := newLock("robot-arm-1")
	in.TTL, in.Leased = 100*time.Second, true
	lock := create(t, s, in)
	var lease time.Duration
	const get = `SELECT lease FROM relukko_go.locks`
	for name, c := range map[string]struct {
		change store.Change
		want   func(store.Lock) time.Duration
	}{
		"renewed": {store.Change{Lease: new(time.Minute)},
			func(store.Lock) time.Duration { return time.Minute }},
		"set": {store.Change{ExpiresAt: &lock.ExpiresAt},
			func(l store.Lock) time.Duration { return l.ExpiresAt.Sub(l.UpdatedAt) }},
		"extended": {store.Change{Extend: time.Hour},
			func(l store.Lock) time.Duration { return l.ExpiresAt.Sub(l.UpdatedAt) }},
	} {
		changed, err := s.Update(t.Context(), lock.ID, c.change)
		require.NoError(t, err)
		query(t, url, &lease, get)
		require.Equal(t, c.want(changed), lease, name)
		_, err = s.Update(t.Context(), lock.ID, store.Change{Creator: new("bench-7")})
		require.NoError(t, err)
		query(t, url, &lease, get)
		require.Equal(t, c.want(changed), lease, "renamed")
	}
}

package pgstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// earlier is a program of an earlier version: its statements, on one connection.
type earlier struct {
	t       *testing.T
	version int
	conn    *pgx.Conn
}

// newEarlier makes the schema of that version in an empty database.
func newEarlier(t *testing.T, url string, version int) *earlier {
	t.Helper()
	schema := `CREATE SCHEMA relukko_go; CREATE TABLE relukko_go.version (version integer NOT NULL);
		INSERT INTO relukko_go.version VALUES (` + fmt.Sprint(version) + `);` + pgstore.Version1
	if version > 1 {
		schema += pgstore.Version2
	}
	sql(t, url, schema)
	return connectEarlier(t, url, version)
}

func connectEarlier(t *testing.T, url string, version int) *earlier {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return &earlier{t, version, conn}
}

const earlierFields = `(lock).id::text, (lock).name, (lock).expires_at, (lock).updated_at`

// tryCreate returns the outcome, and the lock if there is one.
func (e *earlier) tryCreate(name, mark string) (outcome int, lock store.Lock, err error) {
	params, args := `$1, $2, $3, $4, $5, $6, $7, $8`, []any{
		newID(), name, nil, "192.0.2.7", time.Minute, &mark, time.Duration(0), int64(1),
	}
	if mark == "" {
		args[5] = nil
	}
	if e.version > 1 {
		params, args = params+`, $9`, append(args, false)
	}
	var id, got *string
	var expires, updated *time.Time
	err = e.conn.QueryRow(context.Background(), `SELECT outcome, `+earlierFields+
		` FROM relukko_go.create_lock(`+params+`)`, args...).Scan(
		&outcome, &id, &got, &expires, &updated)
	if err == nil && id != nil {
		lock = store.Lock{ID: *id, Name: *got, ExpiresAt: *expires, UpdatedAt: *updated}
	}
	return outcome, lock, err
}

func (e *earlier) create(name, mark string) store.Lock {
	e.t.Helper()
	outcome, lock, err := e.tryCreate(name, mark)
	require.NoError(e.t, err)
	require.Zero(e.t, outcome)
	require.Equal(e.t, name, lock.Name)
	return lock
}

func (e *earlier) update(id string, lease time.Duration) (lock store.Lock) {
	e.t.Helper()
	row := e.conn.QueryRow(e.t.Context(), `UPDATE relukko_go.locks l SET
		creator = coalesce($2, l.creator), updated_at = clock.now,
		expires_at = coalesce($3, clock.now + $4, l.expires_at + $5)
		FROM (SELECT clock_timestamp() AS now) clock WHERE l.id = $1
		RETURNING id::text, name, expires_at, updated_at`, id, nil, nil, lease, time.Duration(0))
	require.NoError(e.t, row.Scan(&lock.ID, &lock.Name, &lock.ExpiresAt, &lock.UpdatedAt))
	return lock
}

// rows returns the ids of the locks that a function returns.
func (e *earlier) rows(function string, args ...any) []string {
	e.t.Helper()
	rows, _ := e.conn.Query(e.t.Context(), `SELECT id::text FROM relukko_go.`+function, args...)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(e.t, err)
	return ids
}

func (e *earlier) callOff(mark string) []string {
	e.t.Helper()
	return e.rows(`call_off($1, $2)`, mark, time.Minute)
}

func (e *earlier) sweep(grace time.Duration) []string {
	e.t.Helper()
	if e.version > 1 {
		return e.rows(`sweep($1, $2, $3, $4)`, grace, time.Now().AddDate(1, 0, 0), time.Hour, 10)
	}
	return e.rows(`sweep($1, $2)`, grace, 10)
}

func (e *earlier) everything(name string) {
	e.t.Helper()
	lock := e.create(name, "")
	outcome, holder, err := e.tryCreate(name, "")
	require.NoError(e.t, err)
	require.Equal(e.t, 1, outcome)
	require.Equal(e.t, lock, holder)
	lock = e.update(lock.ID, time.Hour)
	require.Equal(e.t, time.Hour, lock.ExpiresAt.Sub(lock.UpdatedAt))
	require.Equal(e.t, []string{lock.ID}, e.rows(`find_created($1, $2)`, lock.ID, name))
	marked := e.create("marked", "mark of "+name)
	require.Equal(e.t, []string{marked.ID}, e.callOff("mark of "+name))
	require.Empty(e.t, e.callOff("mark of "+name))
	e.update(lock.ID, -2*time.Hour)
	require.Equal(e.t, []string{lock.ID}, e.sweep(time.Hour))
}

// TestEarlierVersionsAreMigrated while a program of that version uses the database, and goes on to.
func TestEarlierVersionsAreMigrated(t *testing.T) {
	t.Parallel()
	for version := 1; version <= 2; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			url := postgres.Database(t)
			old := newEarlier(t, url, version)
			for i := range 7 { // more than PostgreSQL plans anew
				old.everything(fmt.Sprint("before ", i))
			}
			kept := old.create("kept", mark)
			old.callOff("called off before")
			s := open(t, url)
			var got int
			query(t, url, &got, `SELECT version FROM relukko_go.version`)
			require.Equal(t, 3, got)
			for i := range 7 {
				old.everything(fmt.Sprint("after ", i))
			}
			testHistoryBeside(t, s, old)
			testLeasesBeside(t, url, s, old, kept)
			testMarksBeside(t, s, old, kept)
		})
	}
}

// testHistoryBeside: also what a program of an earlier version ends has its entry.
func testHistoryBeside(t *testing.T, s *pgstore.Store, old *earlier) {
	s.KeepHistory(store.HistoryLimits{Age: time.Hour, Max: 1000})
	history := func() []store.Ended {
		ended, err := s.History(t.Context(), store.HistoryQuery{Limit: 1000})
		require.NoError(t, err)
		return ended
	}
	require.Len(t, history(), 14, "what was called off and swept")
	require.Equal(t, store.Ending{How: store.Expired}, history()[0].Ending)
	require.Equal(t, store.Ending{How: store.Cancelled, By: "default"}, history()[1].Ending)
	require.Equal(t, "marked", history()[1].Name)
	in := newLock("robot-arm-1")
	for by, lock := range map[store.Ending]store.Lock{
		{How: store.Released, By: "default"}: old.create("robot-arm-2", ""),
		{How: store.Broken, By: "default"}:   create(t, s, in),
	} {
		_, err := old.conn.Exec(t.Context(), `DELETE FROM relukko_go.locks WHERE id = $1`, lock.ID)
		require.NoError(t, err)
		require.Equal(t, lock.ID, history()[0].ID)
		require.Equal(t, by, history()[0].Ending)
	}
}

func testLeasesBeside(t *testing.T, url string, s *pgstore.Store, old *earlier, kept store.Lock) {
	got, err := s.Get(t.Context(), kept.ID)
	require.NoError(t, err)
	require.True(t, got.ExpiresAt.Equal(kept.ExpiresAt))
	require.Equal(t, "default", got.Owner)
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
	require.Equal(t, 50*time.Second, lease, "a renewal by an earlier version sets the lease")
	require.Equal(t, []string{leased.ID}, old.rows(`find_created($1, $2)`, leased.ID, in.Name))
	old.update(leased.ID, -time.Hour)
	swept, err = s.Sweep(t.Context(), limits)
	require.NoError(t, err)
	require.Len(t, swept.Locks, 1, "and does not end that it is leased")
	require.Equal(t, leased.ID, swept.Locks[0].ID)
}

func testMarksBeside(t *testing.T, s *pgstore.Store, old *earlier, kept store.Lock) {
	const calledOff = 2
	refused := func(mark string) {
		t.Helper()
		outcome, lock, err := old.tryCreate("refused", mark)
		require.NoError(t, err)
		require.Equal(t, calledOff, outcome)
		require.Zero(t, lock)
		in := newLock("refused")
		in.Owner, in.Mark = "default", mark
		_, err = s.Create(t.Context(), in)
		require.ErrorIs(t, err, store.ErrCancelled)
		in.Owner = "another"
		remove(t, s, create(t, s, in).ID)
	}
	refused("called off before")
	lock := old.create("robot-arm-1", "by the earlier")
	require.Equal(t, []string{lock.ID}, old.callOff("by the earlier"))
	refused("by the earlier")
	lock = old.create("robot-arm-1", "by the later")
	locks, err := s.Cancel(t.Context(), "default", "by the later")
	require.NoError(t, err)
	require.Len(t, locks, 1)
	require.Equal(t, lock.ID, locks[0].ID)
	refused("by the later")

	_, locks, err = s.Claim(t.Context(), "default", mark)
	require.NoError(t, err)
	require.Len(t, locks, 1)
	require.Equal(t, kept.ID, locks[0].ID)
	outcome, lock, err := old.tryCreate("claimed", mark)
	require.NoError(t, err)
	require.Equal(t, calledOff, outcome, "it knows of no claims")
	require.Zero(t, lock)
	require.Equal(t, []string{kept.ID}, old.callOff(mark))
	refused(mark)
}

// TestCallsUnderWayDuringTheMigration, with the functions as they were before, fail.
func TestCallsUnderWayDuringTheMigration(t *testing.T) {
	t.Parallel()
	for version := 1; version <= 2; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			url := postgres.Database(t)
			h := begin(t, url)
			h.exec(`SELECT pg_advisory_xact_lock(1919708012, hashtext('robot-arm-1')),
				pg_advisory_xact_lock_shared(1919708011, hashtext('called off'))`)
			old := newEarlier(t, url, version)
			created := make(chan error, 1)
			go func() {
				_, _, err := old.tryCreate("robot-arm-1", "")
				created <- err
			}()
			waits(t, url, "create_lock")
			another, calledOff := connectEarlier(t, url, version), make(chan error, 1)
			go func() {
				const sql = `SELECT FROM relukko_go.call_off('called off', '1 minute')`
				_, err := another.conn.Exec(context.Background(), sql)
				calledOff <- err
			}()
			waits(t, url, "call_off")
			s := open(t, url)
			h.exec(`ROLLBACK`)
			var failed *pgconn.PgError
			require.ErrorAs(t, <-created, &failed)
			const notNull, otherRow = "23502", "42804"
			require.Equal(t, notNull, failed.Code, "%v", failed)
			require.ErrorAs(t, <-calledOff, &failed)
			require.Equal(t, otherRow, failed.Code, "%v", failed)
			in := newLock("robot-arm-1")
			in.Owner, in.Mark = "default", "called off"
			lock := create(t, s, in)
			require.Equal(t, []string{lock.ID}, another.callOff("called off"))
			old.everything("robot-arm-1")
		})
	}
}

// TestAMigrationInADeadlock with a call of an earlier version begins anew.
func TestAMigrationInADeadlock(t *testing.T) {
	t.Parallel()
	url := postgres.Database(t)
	newEarlier(t, url, 2)
	h := begin(t, url)
	h.exec(`SET deadlock_timeout = '1min'`) // the other one gives up
	h.exec(`INSERT INTO relukko_go.called_off VALUES ('mark', now() + interval '1 minute')`)
	opened := make(chan error, 1)
	go func() {
		s, err := pgstore.Open(context.Background(), url, nil)
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	require.Eventually(t, func() bool {
		var n int
		query(t, url, &n, `SELECT count(*) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND datname = current_database()`)
		return n > 0
	}, soon, time.Millisecond)
	h.exec(`DELETE FROM relukko_go.locks WHERE mark = 'mark'`)
	h.exec(`COMMIT`)
	require.NoError(t, <-opened)
	var n int
	query(t, url, &n, `SELECT count(*) FROM relukko_go.marks WHERE cancelled AND mark = 'mark'`)
	require.Equal(t, 1, n)
}

// TestARoleKeepsItsRightsInAMigration, which the owner of the schema makes.
func TestARoleKeepsItsRightsInAMigration(t *testing.T) {
	url := postgres.Database(t)
	sql(t, url, `CREATE ROLE "kept role" LOGIN`)
	t.Cleanup(func() { sql(t, url, `DROP OWNED BY "kept role"; DROP ROLE "kept role"`) })
	newEarlier(t, url, 2)
	sql(t, url, `GRANT USAGE ON SCHEMA relukko_go TO "kept role";
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA relukko_go TO "kept role";
		GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA relukko_go TO "kept role"`)
	as := strings.Replace(url, "user=postgres", "user=kept%20role", 1)
	old := connectEarlier(t, as, 2)
	old.everything("before")
	_, err := pgstore.Open(t.Context(), as, nil)
	require.ErrorContains(t, err, "must be owner of table locks")
	require.NoError(t, open(t, url).Close())
	old.everything("after")
	s := open(t, as)
	claim(t, s)
	_, err = s.Cancel(t.Context(), owner, mark)
	require.NoError(t, err)
	publish(t, s, waiter("robot-arm-1"))
	requirePublished(t, s)
	_, err = s.Sweep(t.Context(), store.Limits{})
	require.NoError(t, err)
	remove(t, s, create(t, s, newLock("robot-arm-1")).ID)
	s.KeepHistory(store.HistoryLimits{Age: time.Hour, Max: 1000})
	remove(t, s, create(t, s, newLock("robot-arm-1")).ID)
	ended, err := s.History(t.Context(), store.HistoryQuery{Limit: 1000})
	require.NoError(t, err)
	require.NotEmpty(t, ended)
}

// TestSeveralMigrateAtOnce: one of them does, the others wait.
func TestSeveralMigrateAtOnce(t *testing.T) {
	url := postgres.Database(t)
	old := newEarlier(t, url, 1)
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

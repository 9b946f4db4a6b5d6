package pgstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const mark = "k3v5x2m4q7ab"

func claim(t *testing.T, s *pgstore.Store) (claim uint64, locks []store.Lock) {
	t.Helper()
	claim, locks, err := s.Claim(t.Context(), owner, mark)
	require.NoError(t, err)
	return claim, locks
}

func marked(name string, claim uint64) store.NewLock {
	in := newLock(name)
	in.Mark, in.Claim = mark, claim
	return in
}

// heldBack is a transaction in which a create is carried out, on a connection of its own.
type heldBack struct {
	t    *testing.T
	conn *pgx.Conn
}

func begin(t *testing.T, url string) *heldBack {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	h := &heldBack{t, conn}
	h.exec(`BEGIN`)
	return h
}

func (h *heldBack) exec(sql string, args ...any) {
	h.t.Helper()
	_, err := h.conn.Exec(h.t.Context(), sql, args...)
	require.NoError(h.t, err)
}

func (h *heldBack) create(in store.NewLock) (outcome int) {
	h.t.Helper()
	row := h.conn.QueryRow(h.t.Context(), `SELECT outcome FROM relukko_go.create_lock(
		$1, $2, NULL, '', '1 minute', $3, '0', 1, false, $4, $5, '0')`,
		in.ID, in.Name, in.Mark, in.Owner, int64(in.Claim))
	require.NoError(h.t, row.Scan(&outcome))
	return outcome
}

// claimBlocks begins to claim, and returns once the claim waits for another transaction.
func claimBlocks(t *testing.T, url string, s *pgstore.Store) <-chan []store.Lock {
	t.Helper()
	found := make(chan []store.Lock, 1)
	go func() {
		_, locks, err := s.Claim(context.Background(), owner, mark)
		if err != nil {
			t.Error(err)
		}
		found <- locks
	}()
	waits(t, url, "claim_mark")
	return found
}

// waits returns once a statement with that text waits for an advisory lock.
func waits(t *testing.T, url, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		query(t, url, &n, `SELECT count(*) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'
			AND datname = current_database() AND query LIKE '%' || $1 || '%'`, text)
		return n > 0
	}, soon, time.Millisecond)
}

// TestACreateHeldBackIsFoundOrSuperseded: it is held back at each of its steps, and a mark is
// claimed meanwhile on another connection.
func TestACreateHeldBackIsFoundOrSuperseded(t *testing.T) {
	t.Parallel()
	const superseded = 4
	for _, before := range []bool{false, true} { // it was claimed before
		for _, handOver := range []bool{false, true} {
			t.Run(fmt.Sprint("claimed=", before, "/hand over=", handOver), func(t *testing.T) {
				url := empty(t)
				s := open(t, url)
				in := marked("robot-arm-1", 0)
				if before {
					in.Claim, _ = claim(t, s)
				}
				held := create(t, s, newLock("robot-arm-1"))
				locksAndDelete := func(h *heldBack) {
					if handOver {
						h.exec(`SELECT pg_advisory_xact_lock_shared(1919708011, hashtext($1)),
							pg_advisory_xact_lock(1919708012, hashtext($2))`, mark, in.Name)
					}
					h.exec(`DELETE FROM relukko_go.locks WHERE id = $1`, held.ID)
				}
				if !handOver {
					remove(t, s, held.ID)
				}

				h := begin(t, url) // rolled back
				locksAndDelete(h)
				require.Zero(t, h.create(in))
				found := claimBlocks(t, url, s)
				h.exec(`ROLLBACK`)
				require.Empty(t, <-found)
				in.Claim, _ = claim(t, s)

				h = begin(t, url) // not begun before the claim
				_, locks := claim(t, s)
				require.Empty(t, locks)
				locksAndDelete(h)
				require.Equal(t, superseded, h.create(in))
				h.exec(`ROLLBACK`)
				in.Claim, _ = claim(t, s)

				h = begin(t, url) // between the locks and the create, then before the commit
				locksAndDelete(h)
				if handOver {
					found = claimBlocks(t, url, s)
				}
				require.Zero(t, h.create(in))
				if !handOver {
					found = claimBlocks(t, url, s)
				}
				h.exec(`COMMIT`)
				locks = <-found
				require.Len(t, locks, 1)
				require.Equal(t, in.ID, locks[0].ID)
			})
		}
	}
}

// TestACreateThatWaitsForItsNameIsFound by the claim of its mark, which waits for it.
func TestACreateThatWaitsForItsNameIsFound(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	other := begin(t, url)
	other.exec(`SELECT pg_advisory_xact_lock(1919708012, hashtext('robot-arm-1'))`)
	in := marked("robot-arm-1", 0)
	made := make(chan error, 1)
	go func() {
		_, err := s.Create(context.Background(), in)
		made <- err
	}()
	waits(t, url, "create_lock")
	found := claimBlocks(t, url, s)
	other.exec(`ROLLBACK`)
	require.NoError(t, <-made)
	locks := <-found
	require.Len(t, locks, 1)
	require.Equal(t, in.ID, locks[0].ID)
}

// TestAClaimWhoseCreateHangs is unavailable in good time, and takes nothing over.
func TestAClaimWhoseCreateHangs(t *testing.T) {
	t.Parallel() // it waits, for the most part
	url := postgres.Database(t)
	s := open(t, url)
	h := begin(t, url)
	in := marked("robot-arm-1", 0)
	require.Zero(t, h.create(in))
	_, _, err := s.Claim(t.Context(), owner, mark)
	require.ErrorIs(t, err, store.ErrUnavailable)
	h.exec(`COMMIT`)
	_, locks := claim(t, s)
	require.Len(t, locks, 1)
}

// TestClaimsAcrossServers: a mark that one server has claimed is superseded on another.
func TestClaimsAcrossServers(t *testing.T) {
	stores, _ := openThree(t)
	first, _ := claim(t, stores[0])
	lock := create(t, stores[0], marked("robot-arm-1", first))
	second, locks := claim(t, stores[1])
	require.Greater(t, second, first)
	require.Equal(t, []store.Lock{lock}, locks)
	_, err := stores[0].Create(t.Context(), marked("robot-arm-2", first))
	require.ErrorIs(t, err, store.ErrSuperseded)
	create(t, stores[2], marked("robot-arm-2", second))
}

// TestMarksAreForgotten when their time has run out; claims go on rising.
func TestMarksAreForgotten(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	first, _ := claim(t, s)
	_, err := s.Cancel(t.Context(), owner, "cancelled")
	require.NoError(t, err)
	_, err = s.Cancel(t.Context(), owner, "kept")
	require.NoError(t, err)
	var left time.Duration
	query(t, url, &left, `SELECT min(until) - clock_timestamp() FROM relukko_go.marks`)
	require.InDelta(t, store.ClaimTime, left, float64(soon))
	sweep := func() (n int) {
		_, err := s.Sweep(t.Context(), store.Limits{})
		require.NoError(t, err)
		query(t, url, &n, `SELECT count(*) FROM relukko_go.marks`)
		return n
	}
	require.Equal(t, 3, sweep())
	sql(t, url, `UPDATE relukko_go.marks SET until = clock_timestamp() WHERE mark <> 'kept'`)
	in := newLock("robot-arm-1")
	in.Mark = "cancelled"
	remove(t, s, create(t, s, in).ID)
	_, err = s.Create(t.Context(), marked("robot-arm-1", 0))
	require.ErrorIs(t, err, store.ErrSuperseded, "until it is forgotten")
	require.Equal(t, 1, sweep())
	create(t, s, marked("robot-arm-1", 0))
	second, locks := claim(t, s)
	require.Greater(t, second, first)
	require.Len(t, locks, 1)
}

// TestTooManyCancelledMarks of one owner.
func TestTooManyCancelledMarks(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := open(t, url)
	sql(t, url, `INSERT INTO relukko_go.marks
		SELECT $1, n, 0, n > 1, now() + CASE WHEN n = 2 THEN '0' ELSE interval '1 minute' END
		FROM generate_series(1, $2::int + 1) n`, owner, store.MaxMarks)
	_, err := s.Cancel(t.Context(), owner, "the last one") // one is only claimed, one is over
	require.NoError(t, err)
	lock := create(t, s, marked("robot-arm-1", 0))
	_, err = s.Cancel(t.Context(), owner, mark)
	require.ErrorIs(t, err, store.ErrTooManyMarks)
	got, err := s.Get(t.Context(), lock.ID)
	require.NoError(t, err, "nothing was done")
	require.Equal(t, lock, got)
	_, err = s.Cancel(t.Context(), "other", mark)
	require.NoError(t, err)
	_, err = s.Cancel(t.Context(), owner, "7")
	require.NoError(t, err, "it is one of them")
	sql(t, url, `UPDATE relukko_go.marks SET until = now() WHERE mark = '7'`)
	locks, err := s.Cancel(t.Context(), owner, mark)
	require.NoError(t, err)
	require.Equal(t, []store.Lock{lock}, locks)
}

package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// together makes calls that come together, and returns when all have returned.
func together(t *testing.T, s *pgstore.Store, calls ...func()) {
	t.Helper()
	release, group := gather(t, s, calls...)
	release()
	group.Wait()
}

// gather makes calls, none of which is carried out before release is called. They wait for 2 s.
func gather(t *testing.T, s *pgstore.Store, calls ...func()) (release func(), g *sync.WaitGroup) {
	t.Helper()
	waiting, release := s.Hold()
	g = new(sync.WaitGroup)
	for _, call := range calls {
		g.Go(call)
	}
	require.Eventually(t, func() bool { return waiting() == len(calls) }, soon, time.Millisecond)
	return release, g
}

// noteTransactions records which transaction changes which lock.
func noteTransactions(t *testing.T, url string) {
	t.Helper()
	sql(t, url, `CREATE TABLE relukko_go.transactions AS
			SELECT txid_current() AS id, ''::text AS what WHERE false;
		CREATE FUNCTION relukko_go.note() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN
				INSERT INTO relukko_go.transactions VALUES (txid_current(), TG_OP);
				RETURN NULL; END $$;
		CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON relukko_go.locks
			FOR EACH ROW EXECUTE FUNCTION relukko_go.note()`)
}

// transactions returns what was done in how many transactions since it was last called.
func transactions(t *testing.T, url string) (seen string) {
	t.Helper()
	query(t, url, &seen, `WITH all_of_them AS (DELETE FROM relukko_go.transactions RETURNING *)
		SELECT string_agg(DISTINCT what, ', ' ORDER BY what) || ': ' || count(*) || ' in '
			|| count(DISTINCT id) FROM all_of_them`)
	return seen
}

// updates returns calls that renew the locks, and require that they succeed.
func updates(t *testing.T, s *pgstore.Store, locks []store.Lock) (calls []func()) {
	lease := time.Hour
	for _, lock := range locks {
		calls = append(calls, func() {
			got, err := s.Update(context.Background(), lock.ID, store.Change{Lease: &lease})
			if err != nil || got.Name != lock.Name || !got.ExpiresAt.After(lock.ExpiresAt) {
				t.Errorf("update of %q: %v, %v", lock.Name, got, err)
			}
		})
	}
	return calls
}

func createSome(t *testing.T, s *pgstore.Store, n int) (locks []store.Lock) {
	t.Helper()
	for i := range n {
		locks = append(locks, create(t, s, newLock(fmt.Sprint("robot-arm-", i))))
	}
	return locks
}

func TestChangesThatComeTogetherShareACommit(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	noteTransactions(t, url)
	const n = 20
	var locks [n]store.Lock
	var calls []func()
	for i := range n {
		in := marked(fmt.Sprint("robot-arm-", i), 0)
		calls = append(calls, func() {
			lock, err := s.Create(context.Background(), in)
			if err != nil || lock.ID != in.ID {
				t.Errorf("%q: %v, %v", in.Name, lock, err)
			}
			locks[i] = lock
		})
	}
	together(t, s, calls...)
	require.Equal(t, "INSERT: 20 in 1", transactions(t, url))

	together(t, s, updates(t, s, locks[:])...)
	require.Equal(t, "UPDATE: 20 in 1", transactions(t, url))

	calls = nil
	for i, held := range locks {
		calls = append(calls, func() {
			if i%2 == 0 {
				both, err := s.HandOver(context.Background(), held.ID, store.Ending{},
					queuedLock(held.Name))
				locks[i] = both.Created
				if err != nil || both.Deleted.ID != held.ID || both.CreateErr != nil {
					t.Errorf("%v, %v", both, err)
				}
				return
			}
			lock, err := s.Delete(context.Background(), held.ID, store.Ending{})
			if err != nil || lock.ID != held.ID {
				t.Errorf("%v, %v", lock, err)
			}
			_, err = s.Get(context.Background(), held.ID)
			if !errors.Is(err, store.ErrGone) {
				t.Error("it is there after the delete:", err)
			}
		})
	}
	together(t, s, calls...)
	require.Equal(t, "DELETE, INSERT: 30 in 1", transactions(t, url))

	// One alone has a transaction of its own, and what is gone is said to those who come late.
	var gone int
	remove := func() {
		if _, err := s.Delete(context.Background(), locks[0].ID, store.Ending{}); err != nil {
			require.ErrorIs(t, err, store.ErrGone)
			gone++
		}
	}
	remove()
	require.Zero(t, gone)
	remove()
	require.Equal(t, 1, gone)
	require.Equal(t, "DELETE: 1 in 1", transactions(t, url))
}

// TestMoreChangesThanAGroupHas are several groups.
func TestMoreChangesThanAGroupHas(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	locks := createSome(t, s, 150)
	noteTransactions(t, url)
	together(t, s, updates(t, s, locks)...)
	require.Equal(t, "UPDATE: 150 in 3", transactions(t, url))
}

func TestOneBadChangeDoesNotFailTheOthers(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	locks := createSome(t, s, 5)
	noteTransactions(t, url)
	never := time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)
	both := store.Handover{}
	calls := append(updates(t, s, locks[1:4]), func() {
		_, err := s.Update(context.Background(), locks[0].ID, store.Change{ExpiresAt: &never})
		if !errors.Is(err, store.ErrOutOfRange) {
			t.Error(err)
		}
	}, func() {
		_, err := s.Create(context.Background(), newLock("not\x00text"))
		if err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Error(err)
		}
	}, func() {
		if _, err := s.Create(context.Background(), newLock("fine")); err != nil {
			t.Error(err)
		}
	}, func() {
		var err error
		both, err = s.HandOver(context.Background(), locks[4].ID, store.Ending{},
			queuedLock(locks[4].Name))
		if err != nil {
			t.Error(err)
		}
	})
	together(t, s, calls...)
	require.Equal(t, locks[4], both.Deleted)
	require.NoError(t, both.DeleteErr)
	require.NoError(t, both.CreateErr)
	require.Equal(t, "DELETE, INSERT, UPDATE: 6 in 5", transactions(t, url),
		"each has one of its own")
}

// TestARowThatIsNotFree delays those that share a transaction with its change by a tenth of a
// second, and those that come later not at all.
func TestARowThatIsNotFree(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	locks := createSome(t, s, 6)
	other := begin(t, url)
	other.exec(`SELECT FROM relukko_go.locks WHERE id = $1 FOR UPDATE`, locks[0].ID)
	stuck := func() {
		if _, err := s.Update(context.Background(), locks[0].ID, store.Change{}); err != nil {
			t.Error("once it is free:", err)
		}
	}
	began := time.Now()
	var calls []func()
	for _, f := range updates(t, s, locks[1:]) {
		calls = append(calls, func() {
			f()
			if took := time.Since(began); took < 100*time.Millisecond || took > time.Second {
				t.Error("the group waited for", took)
			}
		})
	}
	release, group := gather(t, s, append(calls, stuck)...)
	began = time.Now()
	release()
	// Two more of them, each alone, keep nobody from having a turn.
	group.Go(stuck)
	group.Go(stuck)
	for range 20 {
		began := time.Now()
		remove(t, s, create(t, s, newLock("free")).ID)
		require.Less(t, time.Since(began), time.Second)
	}
	other.exec(`ROLLBACK`)
	group.Wait()
}

func TestAChangeThatIsCancelledWhileItWaitsIsNotCarriedOut(t *testing.T) {
	s := open(t, empty(t))
	waiting, release := s.Hold()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	in, another := newLock("robot-arm-1"), newLock("robot-arm-2")
	wg.Go(func() {
		_, err := s.Create(ctx, in)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, store.ErrNotDone) {
			t.Error(err)
		}
	})
	require.Eventually(t, func() bool { return waiting() == 1 }, soon, time.Millisecond)
	wg.Go(func() { create(t, s, another) })
	require.Eventually(t, func() bool { return waiting() == 2 }, soon, time.Millisecond)
	cancel()
	require.Eventually(t, func() bool { return waiting() == 1 }, soon, time.Millisecond)
	release()
	wg.Wait()
	_, err := s.Get(t.Context(), in.ID)
	require.ErrorIs(t, err, store.ErrGone)
	_, err = s.Get(t.Context(), another.ID)
	require.NoError(t, err)
}

// TestAChangeWaitsForTwoSeconds at most, as for a connection.
func TestAChangeWaitsForTwoSeconds(t *testing.T) {
	t.Parallel() // it waits, for the most part
	s := open(t, postgres.Database(t))
	_, release := s.Hold()
	defer release()
	began := time.Now()
	_, err := s.Delete(t.Context(), newID(), store.Ending{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, err, store.ErrNotDone)
	require.WithinRange(t, time.Now(), began.Add(2*time.Second), began.Add(4*time.Second))
}

// TestTheAnswerToAGroupIsLost: each call finds out, or says, what came of it.
func TestTheAnswerToAGroupIsLost(t *testing.T) {
	url := empty(t)
	p := through(t, url)
	s, other := open(t, p.url), open(t, url)
	ear := listen(t, other)
	locks := createSome(t, s, 3)
	var calls []func()
	var created sync.Map
	for i := range 5 {
		calls = append(calls, func() {
			lock, err := s.Create(context.Background(), newLock(fmt.Sprint("licence-", i)))
			if err != nil {
				t.Error(err)
			}
			created.Store(lock.ID, lock)
		})
	}
	for _, lock := range locks {
		calls = append(calls, func() {
			_, err := s.Delete(context.Background(), lock.ID, store.Ending{})
			if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotDone) {
				t.Error(err)
			}
		})
	}
	p.CutNext("licence-3")
	together(t, s, calls...)
	list, err := other.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 5, "all was carried out")
	for _, lock := range list {
		found, ok := created.Load(lock.ID)
		require.True(t, ok)
		require.Equal(t, lock, found)
	}
	for heard := 0; heard < 5; { // of those that were found, too
		if lock := ear.until(store.EventCreated).Lock; slices.Contains(list, lock) {
			heard++
		}
	}
}

// TestABackendIsKilledInACommit of a group, which PostgreSQL reports as an error that says nothing
// of the outcome.
func TestABackendIsKilledInACommit(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	locks := createSome(t, s, 4)
	sql(t, url, `CREATE FUNCTION relukko_go.die() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN
				IF current_setting('lock_timeout') = '100ms' THEN
					PERFORM pg_terminate_backend(pg_backend_pid());
				END IF;
				RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER dies AFTER DELETE ON relukko_go.locks
			DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION relukko_go.die()`)
	var calls []func()
	for _, lock := range locks {
		calls = append(calls, func() {
			_, err := s.Delete(context.Background(), lock.ID, store.Ending{})
			if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotDone) {
				t.Error(err)
			}
		})
	}
	together(t, s, calls...)
	list, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, locks, list)
	sql(t, url, `DROP TRIGGER dies ON relukko_go.locks`)
	requireNormal(t, s)
}

// TestEachOfAGroupEndsInItsOwnWay in the history.
func TestEachOfAGroupEndsInItsOwnWay(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	s.KeepHistory(store.HistoryLimits{Age: time.Hour, Max: 1000})
	locks := createSome(t, s, 4)
	endings := []store.Ending{
		{How: store.Released, By: owner},
		{How: store.Broken, By: "admin", Reason: "it smokes\nand stinks"},
		{How: store.Released, By: "another"}, // so it is broken
		{How: store.Expired},
	}
	var calls []func()
	for i, lock := range locks {
		calls = append(calls, func() {
			var err error
			if i == 0 {
				_, err = s.HandOver(context.Background(), lock.ID, endings[i],
					queuedLock(lock.Name))
			} else {
				_, err = s.Delete(context.Background(), lock.ID, endings[i])
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	noteTransactions(t, url)
	together(t, s, calls...)
	require.Equal(t, "DELETE, INSERT: 5 in 1", transactions(t, url))
	ended, err := s.History(t.Context(), store.HistoryQuery{Limit: 100})
	require.NoError(t, err)
	require.Len(t, ended, 4)
	for _, e := range ended {
		i := slices.Index(locks, e.Lock)
		require.Equal(t, endings[i].Of(owner), e.Ending)
	}
}

// TestGroupsNeverDeadlock: those of two servers, for the same names, locks and marks, beside all
// that excludes them. PostgreSQL counts deadlocks if it looks for them before a group gives up.
func TestGroupsNeverDeadlock(t *testing.T) {
	t.Parallel()
	url := postgres.Database(t)
	sql(t, url, `DO $$ BEGIN EXECUTE
		'ALTER DATABASE ' || current_database() || ' SET deadlock_timeout = 5'; END $$`)
	stores := []*pgstore.Store{open(t, url), open(t, url)}
	var mu sync.Mutex
	var recent [40]store.NewLock
	some := func() store.NewLock {
		mu.Lock()
		defer mu.Unlock()
		return recent[rand.N(len(recent))]
	}
	fresh := func() store.NewLock {
		in := newLock(fmt.Sprint("lock ", rand.N(30)))
		in.Mark, in.Waited = in.ID, time.Duration(rand.N(2))*time.Second
		mu.Lock()
		defer mu.Unlock()
		recent[rand.N(len(recent))] = in
		return in
	}
	for i := range recent {
		recent[i] = newLock(fmt.Sprint("lock ", i))
	}
	ctx, lasting := context.Background(), createSome(t, stores[0], 8)
	call := func(s *pgstore.Store) (err error) {
		lease, long := rand.N(2*time.Second), time.Hour
		switch rand.N(18) {
		case 0, 1, 2:
			_, err = s.Create(ctx, fresh())
		case 3, 4:
			_, err = s.Delete(ctx, some().ID, store.Ending{})
		case 5, 6, 7:
			_, err = s.Update(ctx, some().ID, store.Change{Lease: &lease})
		case 8, 9:
			_, err = s.HandOver(ctx, some().ID, store.Ending{}, fresh())
		case 10:
			if in := some(); rand.N(2) == 0 {
				_, _, err = s.Claim(ctx, owner, in.Mark)
			} else {
				_, err = s.Cancel(ctx, owner, in.Mark)
			}
		case 11:
			if rand.N(4) == 0 {
				_, err = s.Sweep(ctx, store.Limits{Steady: time.Minute})
			} else {
				both := []store.NewLock{fresh(), fresh()}
				both[0].Mark, both[1].Mark = "", "" // of several locks a cancel has its own order
				_, err = s.CreateAll(ctx, both)
			}
		default:
			_, err = s.Update(ctx, lasting[rand.N(8)].ID, store.Change{Lease: &long})
		}
		return err
	}
	end := time.Now().Add(3 * time.Second)
	concurrently(64, func(i int) {
		for time.Now().Before(end) {
			err := call(stores[i%2])
			for _, fine := range []error{nil, store.ErrHeld, store.ErrGone, store.ErrCancelled,
				store.ErrSuperseded} {
				if errors.Is(err, fine) {
					err = nil
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	for _, s := range stores {
		require.NoError(t, s.Close())
	}
	var deadlocks int
	query(t, url, &deadlocks,
		`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)
	require.Zero(t, deadlocks)
}

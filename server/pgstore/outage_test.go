package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// calls are all that a server may ask of a store.
func calls(s store.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"create": func(ctx context.Context) error {
			_,
				err := s.Create(ctx, newLock("call"))
			return err
		},
		"get":    func(ctx context.Context) error { _, err := s.Get(ctx, newID()); return err },
		"holder": func(ctx context.Context) error { _, err := s.Holder(ctx, "call"); return err },
		"list":   func(ctx context.Context) error { _, err := s.List(ctx); return err },
		"update": func(ctx context.Context) error {
			_,
				err := s.Update(ctx, newID(), store.Change{})
			return err
		},
		"delete": func(ctx context.Context) error {
			_, err := s.Delete(ctx, newID(), store.Ending{})
			return err
		},
		"hand over": func(ctx context.Context) error {
			both, err := s.HandOver(ctx, newID(), store.Ending{}, newLock("call"))
			if err != nil {
				return err
			}
			return both.CreateErr
		},
		"claim": func(ctx context.Context) error {
			_, _, err := s.Claim(ctx, owner, "mark")
			return err
		},
		"cancel": func(ctx context.Context) error {
			_, err := s.Cancel(ctx, owner, "another")
			return err
		},
		"sweep": func(ctx context.Context) error {
			_, err := s.Sweep(ctx, store.Limits{})
			return err
		},
		"ping": func(ctx context.Context) error { return s.Ping(ctx) },
	}
}

// requireUnavailable makes each call once, all at once, and requires that all say ErrUnavailable
// within the time.
func requireUnavailable(t *testing.T, s store.Store, within time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	for name, call := range calls(s) {
		wg.Go(func() {
			began := time.Now()
			err := call(context.Background())
			if took := time.Since(began); !errors.Is(err, store.ErrUnavailable) || took > within {
				t.Errorf("%s after %v: %v", name, took, err)
			}
		})
	}
	wg.Wait()
}

// requireNormal waits until the store works again.
func requireNormal(t *testing.T, s store.Store) {
	t.Helper()
	began := time.Now()
	require.Eventually(t, func() bool { return s.Ping(context.Background()) == nil }, soon,
		time.Millisecond)
	for name, call := range calls(s) {
		err := call(context.Background())
		if err != nil && !errors.Is(err, store.ErrGone) && !errors.Is(err, store.ErrHeld) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Log("back to normal after", time.Since(began))
}

// ledger is what clients were told.
type ledger struct {
	mu      sync.Mutex
	there   map[string]store.Lock // acknowledged as created
	deleted map[string]bool       // acknowledged as deleted
	unsure  map[string]bool       // somebody tried to delete, and was not told
	tokens  map[string]uint64     // the highest of each name
}

// client creates and deletes until ctx ends, and notes what it is told.
func (l *ledger) client(ctx context.Context, t *testing.T, s *pgstore.Store, name string) {
	for ctx.Err() == nil {
		began := time.Now()
		lock, err := s.Create(context.Background(), newLock(name))
		if err == nil {
			l.mu.Lock()
			l.there[lock.ID] = lock
			if lock.FencingToken <= l.tokens[name] {
				t.Errorf("%s: token %d after %d", name, lock.FencingToken, l.tokens[name])
			}
			l.tokens[name] = lock.FencingToken
			l.mu.Unlock()
			_, err = s.Delete(context.Background(), lock.ID, store.Ending{})
			l.mu.Lock()
			if err == nil {
				l.deleted[lock.ID] = true
			} else {
				l.unsure[lock.ID] = true
			}
			l.mu.Unlock()
			// By one whose delete, or create, was not answered.
		} else if errors.Is(err, store.ErrHeld) {
			_, err = s.Delete(context.Background(), lock.ID, store.Ending{})
			if err == nil || errors.Is(err, store.ErrGone) {
				err = nil
				l.mu.Lock()
				l.deleted[lock.ID] = true
				l.mu.Unlock()
			}
		}
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("neither done nor unavailable: %v", err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("two calls took %v", took)
		}
	}
}

// TestTheDatabaseIsGone and comes back while many use it: nothing that was acknowledged is lost or
// undone, no token repeats.
func TestTheDatabaseIsGone(t *testing.T) {
	url := empty(t)
	stores := []*pgstore.Store{open(t, url), open(t, url)}
	ear := listen(t, stores[0])
	l := &ledger{there: map[string]store.Lock{}, deleted: map[string]bool{},
		unsure: map[string]bool{}, tokens: map[string]uint64{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range 8 {
		wg.Go(func() { l.client(ctx, t, stores[i%2], fmt.Sprint("lock ", i)) })
	}
	some := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.deleted)
	}
	for _, end := range []func(testing.TB){postgres.Kill, postgres.Stop, postgres.Kill} {
		before := some()
		require.Eventually(t, func() bool { return some() > before+200 }, soon, time.Millisecond)
		end(t)
		requireUnavailable(t, stores[0], time.Second) // nobody is there: that is known at once
		postgres.Start(t)
		requireNormal(t, stores[0])
		for ear.next().Kind != store.EventMissed {
		}
	}
	cancel()
	wg.Wait()

	locks, err := stores[0].List(t.Context())
	require.NoError(t, err)
	have := map[string]store.Lock{}
	for _, lock := range locks {
		have[lock.ID] = lock
		require.False(t, l.deleted[lock.ID], "acknowledged as deleted, and back")
	}
	for id, lock := range l.there {
		if !l.deleted[id] && !l.unsure[id] {
			require.Equal(t, lock, have[id], "acknowledged as created, and lost")
		}
	}
	t.Log("rounds:", len(l.deleted), "unsure:", len(l.unsure))
}

// TestTheNetworkIsDark: bytes vanish, nothing closes. Calls end all the same, and all is well once
// there is light.
func TestTheNetworkIsDark(t *testing.T) {
	t.Parallel() // it waits, for the most part
	url := postgres.Database(t)
	p := through(t, url)
	s := open(t, p.url)
	ear := listen(t, s)
	requireNormal(t, s)
	p.SetDark(true)
	concurrently(4, func(int) { requireUnavailable(t, s, 3500*time.Millisecond) })
	require.Eventually(t, func() bool { return !s.Listens() }, soon, time.Millisecond)
	p.SetDark(false)
	requireNormal(t, s)
	require.Eventually(t, s.Listens, soon, time.Millisecond)
	other := open(t, url)
	require.Equal(t, create(t, other, newLock("robot-arm-1")), ear.until(store.EventCreated).Lock)
}

// TestTheAnswerIsLost to a create that was carried out: the store finds that out. What it cannot
// find out it says.
func TestTheAnswerIsLost(t *testing.T) {
	url := empty(t)
	p := through(t, url)
	s, other := open(t, p.url), open(t, url)
	ear := listen(t, other)
	requireNormal(t, s)
	for range 5 {
		p.CutNext("robot-arm-1")
		lock := create(t, s, newLock("robot-arm-1"))
		got, err := other.Get(t.Context(), lock.ID)
		require.NoError(t, err)
		require.Equal(t, got, lock)
		for ear.until(store.EventCreated).Lock.ID != lock.ID { // others hear of it
		}

		p.CutNext(raw(t, lock.ID))
		_, err = s.Delete(t.Context(), lock.ID, store.Ending{})
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = other.Get(t.Context(), lock.ID)
		require.ErrorIs(t, err, store.ErrGone)
	}
}

// raw answers an id as it is sent.
func raw(t *testing.T, id string) string {
	var key pgtype.UUID
	require.NoError(t, key.Scan(id))
	return string(key.Bytes[:])
}

// TestTheAnswerToADeleteIsLost: then nobody says that the lock is gone, but who waits for it gets
// it, on the same server and elsewhere.
func TestTheAnswerToADeleteIsLost(t *testing.T) {
	t.Parallel() // it waits, for the most part
	url := postgres.Database(t)
	p := through(t, url)
	deleter, other := startNode(t, p.url), startNode(t, url)
	require.Eventually(t, func() bool { return deleter.st.Listens() && other.st.Listens() }, soon,
		time.Millisecond)
	for _, n := range []*node{deleter, other} {
		for lost := false; !lost; {
			var held answer
			require.Eventually(t, func() bool { // a server that has just started holds off
				held = deleter.create(t.Context(), "robot-arm-1", 0)
				return held.Status == 201
			}, soon, 10*time.Millisecond)
			waiter := n.queue(t.Context(), "robot-arm-1")
			p.CutNext(raw(t, held.ID))
			// Else it was another call about this lock.
			lost = deleter.do(t.Context(), "DELETE", "/v1/locks/"+held.ID, "", "").Status == 503
			got := receive(t, waiter)
			require.Equal(t, 201, got.Status)
			n.delete(got.ID)
		}
	}
}

// TestTheDatabaseTakesNoChanges, as a primary that has become a standby.
func TestTheDatabaseTakesNoChanges(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	requireNormal(t, s)
	set := func(to string) {
		sql(t, url, `ALTER SYSTEM SET default_transaction_read_only = `+to)
		sql(t, url, `SELECT pg_reload_conf()`)
	}
	t.Cleanup(func() { set("off") })
	set("on")
	require.Eventually(t, func() bool { return s.Ping(t.Context()) != nil }, soon, time.Millisecond)
	require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
	_, err := s.Create(t.Context(), newLock("robot-arm-1"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	set("off")
	requireNormal(t, s)
	create(t, s, newLock("robot-arm-1"))
}

// TestOtherErrors are not for trying again.
func TestOtherErrors(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	create(t, s, newLock("robot-arm-1"))
	_, err := s.Create(t.Context(),
		store.NewLock{ID: "no UUID", Name: "robot-arm-2", TTL: time.Minute})
	require.ErrorContains(t, err, "UUID")
	_, err = s.Get(t.Context(), "no UUID")
	require.ErrorIs(t, err, store.ErrGone)
	_, err = s.Holder(t.Context(), "not\x00text")
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrUnavailable)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(s) {
		err := call(ctx)
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, store.ErrUnavailable, name)
	}

	sql(t, url, `ALTER TABLE relukko_go.locks RENAME TO mislaid`)
	for name, call := range calls(s) {
		if err := call(t.Context()); name != "ping" {
			require.Error(t, err, name)
			require.NotErrorIs(t, err, store.ErrUnavailable, name)
		}
	}
	sql(t, url, `ALTER TABLE relukko_go.mislaid RENAME TO locks`)
	requireNormal(t, s)
}

// TestALockInTheDatabaseHangs, as while a commit waits for a replica that is gone: calls for that
// name end, others go on.
func TestALockInTheDatabaseHangs(t *testing.T) {
	t.Parallel() // it waits, for the most part
	url := postgres.Database(t)
	s := open(t, url)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT
		relukko_go.create_lock($1, 'stuck', NULL, '', '1 minute', NULL, '0', 1)`, newID())
	require.NoError(t, err)
	var slow atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			began := time.Now()
			_, err := s.Create(context.Background(), newLock("stuck"))
			if took := time.Since(began); !errors.Is(err, store.ErrUnavailable) ||
				took > 3500*time.Millisecond {
				t.Errorf("after %v: %v", took, err)
			}
			slow.Add(1)
		})
	}
	for slow.Load() == 0 {
		remove(t, s, create(t, s, newLock("free")).ID)
	}
	wg.Wait()
	require.NoError(t, tx.Rollback(t.Context()))
	create(t, s, newLock("stuck"))
}

// TestTheReplicaIsGone for which commits have to wait: calls end, and what is not on the replica
// nobody sees. It is there once the replica has it, or is given up.
func TestTheReplicaIsGone(t *testing.T) {
	url := empty(t)
	s, other := open(t, url), open(t, url)
	requireNormal(t, s)
	set := func(to string) {
		sql(t, url, `ALTER SYSTEM SET synchronous_standby_names = `+to)
		sql(t, url, `SELECT pg_reload_conf()`)
	}
	t.Cleanup(func() { set("''") })
	var in store.NewLock
	set("'one_that_is_gone'")
	for err := error(nil); err == nil; { // the setting takes a moment
		in = newLock("robot-arm-" + newID())
		_, err = s.Create(t.Context(), in)
		if err != nil {
			require.ErrorIs(t, err, store.ErrUnavailable)
		}
	}
	_, err := other.Get(t.Context(), in.ID)
	require.ErrorIs(t, err, store.ErrGone)
	set("''")
	require.Eventually(t, func() bool {
		lock, err := other.Holder(t.Context(), in.Name)
		return err == nil && lock.ID == in.ID
	}, soon, time.Millisecond)
}

// TestWhatWasNotSentIsNotDone: nobody needs to look for what came of it.
func TestWhatWasNotSentIsNotDone(t *testing.T) {
	s := open(t, empty(t))
	create(t, s, newLock("before"))
	postgres.Stop(t)
	requireUnavailable(t, s, time.Second)
	_, err := s.Create(t.Context(), newLock("while it is gone"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, err, store.ErrNotDone)
}

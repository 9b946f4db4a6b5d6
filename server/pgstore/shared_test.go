package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// TestOneHoldsAndTokensRise among many who contend for a name through several servers.
func TestOneHoldsAndTokensRise(t *testing.T) {
	t.Parallel()
	stores, _ := openThree(t)
	const contenders, each = 24, 15
	var inside atomic.Int32
	var last atomic.Uint64
	concurrently(contenders, func(i int) {
		s := stores[i%len(stores)]
		for made := 0; made < each; {
			lock, err := s.Create(context.Background(), newLock("contended"))
			if errors.Is(err, store.ErrHeld) {
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			made++
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d hold the lock", n)
			}
			if before := last.Swap(lock.FencingToken); lock.FencingToken <= before {
				t.Errorf("token %d came after %d", lock.FencingToken, before)
			}
			inside.Add(-1)
			if _, err := s.Delete(context.Background(), lock.ID, store.Ending{}); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestNamesWithOneHash exclude only themselves, though they take turns at being created.
func TestNamesWithOneHash(t *testing.T) {
	t.Parallel()
	stores, url := openThree(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var names []string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT array_agg('lock ' || n)
		FROM generate_series(1, 300000) n
		GROUP BY hashtext('lock ' || n) HAVING count(*) > 1 LIMIT 1`).Scan(&names))
	concurrently(24, func(i int) {
		name := names[i%2]
		for made := 0; made < 5; {
			lock, err := stores[i%3].Create(context.Background(), newLock(name))
			if errors.Is(err, store.ErrHeld) {
				if lock.Name != name {
					t.Errorf("%q is held by %q", name, lock.Name)
				}
				continue
			}
			made++
			if _, err := stores[i%3].Delete(
				context.Background(), lock.ID, store.Ending{}); err != nil {
				t.Error(err)
			}
		}
	})
	create(t, stores[0], newLock(names[0]))
	create(t, stores[1], newLock(names[1]))
}

// TestALockIsSweptOnce by whichever server comes first, and none is that was renewed in time.
func TestALockIsSweptOnce(t *testing.T) {
	stores, _ := openThree(t)
	const locks = 600
	var renewed atomic.Int32
	concurrently(8, func(i int) {
		for n := i; n < locks; n += 8 {
			in := newLock(fmt.Sprint("lock ", n))
			in.TTL = -time.Hour
			if _, err := stores[i%3].Create(context.Background(), in); err != nil {
				t.Error(err)
			}
		}
	})
	all, err := stores[0].List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, locks)
	var mu sync.Mutex
	swept := map[string]int{}
	concurrently(9, func(i int) {
		s := stores[i%3]
		if i >= 6 { // renew while the others sweep
			for range 50 {
				lease := time.Hour
				lock, err := s.Update(
					context.Background(), all[rand.N(locks)].ID, store.Change{Lease: &lease})
				if err == nil {
					mu.Lock()
					swept[lock.ID] += 100
					mu.Unlock()
					renewed.Add(1)
				} else if !errors.Is(err, store.ErrGone) {
					t.Error(err)
				}
			}
			return
		}
		for {
			some, err := s.Sweep(context.Background(), store.Limits{Grace: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, lock := range some.Locks {
				swept[lock.ID]++
			}
			mu.Unlock()
			if len(some.Locks) == 0 {
				require.Positive(t, some.Next)
				return
			}
		}
	})
	left, err := stores[0].List(t.Context())
	require.NoError(t, err)
	for _, lock := range left {
		require.Zero(t, swept[lock.ID]%100, "swept, and still there")
		require.NotZero(t, swept[lock.ID]/100, "neither swept nor renewed")
		delete(swept, lock.ID)
	}
	for id, n := range swept {
		require.Equal(t, 1, n%100,
			"%s: swept, or returned as swept, more than once; or renewed (%d) and swept", id, n/100)
		require.Zero(t, n/100)
	}
	require.Equal(t, locks, len(left)+len(swept))
}

// TestCancelAcrossServers: whichever comes first, no lock of the mark is left, and none comes
// later.
func TestCancelAcrossServers(t *testing.T) {
	stores, _ := openThree(t)
	for round := range 50 {
		mark := fmt.Sprint("mark-", round)
		concurrently(6, func(i int) {
			if i == 0 {
				if _, err := stores[round%3].Cancel(
					context.Background(), owner, mark); err != nil {
					t.Error(err)
				}
				return
			}
			in := newLock(fmt.Sprint("lock ", i%2))
			in.Mark = mark
			_, err := stores[i%3].Create(context.Background(), in)
			if err != nil && !errors.Is(err, store.ErrCancelled) && !errors.Is(err, store.ErrHeld) {
				t.Error(err)
			}
		})
		locks, err := stores[0].List(t.Context())
		require.NoError(t, err)
		require.Empty(t, locks)
	}
}

// TestEverythingAtOnce: calls of all kinds get in each other's way without ever failing.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	stores, _ := openThree(t)
	var ids sync.Map
	name := func() string { return fmt.Sprint("lock ", rand.N(3)) }
	id := func() string {
		id := newID()
		ids.Range(func(key, _ any) bool {
			id = key.(string)
			return false
		})
		return id
	}
	concurrently(16, func(i int) {
		s, ctx := stores[i%3], context.Background()
		for range 50 {
			var err error
			began := time.Now()
			op := rand.N(8)
			switch op {
			case 0, 1:
				in := newLock(name())
				in.Mark, in.Waited = fmt.Sprint("mark-", rand.N(500)), rand.N(
					2*time.Second)*time.Duration(rand.N(2))
				if _, err = s.Create(ctx, in); err == nil {
					ids.Store(in.ID, true)
				}
			case 2, 3:
				gone := id()
				_, err = s.Delete(ctx, gone, store.Ending{})
				ids.Delete(gone)
			case 4:
				lease := rand.N(20 * time.Millisecond)
				_, err = s.Update(ctx, id(), store.Change{Lease: &lease})
			case 5:
				_, err = s.Sweep(ctx, store.Limits{})
			case 6:
				_, err = s.Cancel(ctx, owner, fmt.Sprint("mark-", rand.N(500)))
			case 7:
				_, _, err = s.Claim(ctx, owner, fmt.Sprint("mark-", rand.N(500)))
			}
			if err != nil && !errors.Is(err, store.ErrHeld) && !errors.Is(err, store.ErrGone) &&
				!errors.Is(err, store.ErrCancelled) && !errors.Is(err, store.ErrSuperseded) {
				t.Error(op, time.Since(began), err)
			}
		}
	})
}

// TestTheSettingsOfOthers: neither the database nor the role can weaken what a lock is.
func TestTheSettingsOfOthers(t *testing.T) {
	url := postgres.Database(t)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	sql(t, url, `ALTER DATABASE `+config.Database+`
		SET synchronous_commit = off`)
	sql(t, url, `ALTER DATABASE `+config.Database+`
		SET default_transaction_isolation = 'serializable'`)
	sql(t, url, `ALTER DATABASE `+config.Database+`
		SET client_encoding = 'LATIN1'`)
	s := open(t, url)
	for name, want := range map[string]string{"synchronous_commit": "on",
		"transaction_isolation": "read committed"} {
		value, err := s.Setting(name)
		require.NoError(t, err)
		require.Equal(t, want, value)
	}
	require.Equal(t, "🤖", create(t, s, newLock("🤖")).Name)

	sql(t, url, `ALTER DATABASE `+config.Database+`
		SET synchronous_commit = 'remote_apply'`)
	value, err := open(t, url).Setting("synchronous_commit")
	require.NoError(t, err)
	require.Equal(t, "remote_apply", value, "stricter")
}

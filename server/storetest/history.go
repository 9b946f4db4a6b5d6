package storetest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

const aDay = 24 * time.Hour

// keeping makes the store keep all that ends.
func (s tested) keeping() tested {
	s.KeepHistory(store.HistoryLimits{Age: aDay, Max: 1_000_000})
	return s
}

func (s tested) history(q store.HistoryQuery) []store.Ended {
	s.t.Helper()
	if q.Limit == 0 {
		q.Limit = math.MaxInt32
	}
	ended, err := s.History(s.t.Context(), q)
	require.NoError(s.t, err)
	require.NotNil(s.t, ended)
	for i := range ended[min(len(ended), 1):] {
		require.False(s.t, ended[i].At.Before(ended[i+1].At), "newest first")
	}
	return ended
}

// requireLast requires that the newest entries are these, the newest first, apart from their times,
// which it returns.
func (s tested) requireLast(want ...store.Ended) (at []time.Time) {
	s.t.Helper()
	got := s.history(store.HistoryQuery{Limit: len(want)})
	require.Len(s.t, got, len(want))
	for i := range got {
		require.False(s.t, got[i].At.Before(got[i].CreatedAt))
		require.Equal(s.t, time.UTC, got[i].At.Location())
		require.Equal(s.t, got[i].At.Truncate(time.Microsecond), got[i].At)
		at = append(at, got[i].At)
		got[i].At = time.Time{}
	}
	require.Equal(s.t, want, got)
	return at
}

// theHistoryHasEachEnd: what was released, broken, handed over, cancelled and swept.
func theHistoryHasEachEnd(t *testing.T, s tested) {
	s.keeping()
	require.Empty(t, s.history(store.HistoryQuery{}))
	const boss = "boss"

	in := markedLock("robot-arm-1", mark)
	in.Queued = 90*time.Second + time.Microsecond
	s.create(in)
	lock := s.update(in.ID, store.Change{Creator: ptr("renamed"), Extend: time.Second})
	released := store.Ending{How: store.Released, By: owner}
	_, err := s.Delete(t.Context(), lock.ID, released)
	require.NoError(t, err)
	s.requireLast(store.Ended{Lock: lock, Ending: released, Waited: in.Queued})

	lock = s.create(newLock("robot-arm-1"))
	_, err = s.Delete(t.Context(), lock.ID, store.Ending{How: store.Released, By: boss})
	require.NoError(t, err)
	s.requireLast(store.Ended{Lock: lock, Ending: store.Ending{How: store.Broken, By: boss}})

	lock = s.create(newLock("robot-arm-1"))
	broken := store.Ending{How: store.Broken, By: owner, Reason: "für den \"Test\"\nzwei Zeilen\n"}
	next := queuedLock()
	next.Queued = 2 * time.Second
	both, err := s.HandOver(t.Context(), lock.ID, broken, next)
	require.NoError(t, err)
	require.NoError(t, both.CreateErr)
	s.requireLast(store.Ended{Lock: lock, Ending: broken})

	_, err = s.Delete(t.Context(), next.ID, store.Ending{How: store.Cancelled, By: owner})
	require.NoError(t, err)
	cancelled := store.Ending{How: store.Cancelled, By: owner}
	s.requireLast(store.Ended{Lock: both.Created, Ending: cancelled, Waited: next.Queued})

	lock = s.create(markedLock("robot-arm-1", "aaaaaaaaaaaa"))
	_, _, err = s.Claim(t.Context(), owner, "aaaaaaaaaaaa")
	require.NoError(t, err)
	require.Len(t, s.history(store.HistoryQuery{}), 4, "a claim ends nothing")
	s.cancel("aaaaaaaaaaaa")
	s.requireLast(store.Ended{Lock: lock, Ending: cancelled})

	lock = s.create(newLock("robot-arm-1"))
	lock = s.expire(lock.ID, time.Hour)
	_, err = s.Sweep(t.Context(), store.Limits{Grace: time.Minute})
	require.NoError(t, err)
	at := s.requireLast(store.Ended{Lock: lock, Ending: store.Ending{How: store.Expired}})
	require.True(t, at[0].After(lock.ExpiresAt))
	require.Len(t, s.history(store.HistoryQuery{}), 6)
}

// theHistoryIsSelected by name, time and number.
func theHistoryIsSelected(t *testing.T, s tested) {
	s.keeping()
	for i := range 30 {
		s.delete(s.create(newLock(fmt.Sprint("robot-arm-", i%3))).ID)
	}
	all := s.history(store.HistoryQuery{})
	require.Len(t, all, 30)
	require.Equal(t, all[:7], s.history(store.HistoryQuery{Limit: 7}))
	var named []store.Ended
	for _, e := range all {
		if e.Name == "robot-arm-1" {
			named = append(named, e)
		}
	}
	require.Len(t, named, 10)
	require.Equal(t, named, s.history(store.HistoryQuery{Name: "robot-arm-1"}))
	require.Equal(t, named[:2], s.history(store.HistoryQuery{Name: "robot-arm-1", Limit: 2}))
	require.Empty(t, s.history(store.HistoryQuery{Name: "robot-arm"}))
	since, until := all[20].At, all[10].At
	require.Equal(t, all[:21], s.history(store.HistoryQuery{Since: since}))
	require.Equal(t, all[10:], s.history(store.HistoryQuery{Until: until}))
	require.Equal(t, all[10:21], s.history(store.HistoryQuery{Since: since, Until: until}))
	require.Equal(t, all[10:12], s.history(store.HistoryQuery{Until: until, Limit: 2}))
	require.Equal(t, all[11:], s.history(store.HistoryQuery{Until: until.Add(-time.Microsecond)}))
	require.Empty(t, s.history(store.HistoryQuery{Since: all[0].At.Add(time.Microsecond)}))
	require.Equal(t, all, s.history(store.HistoryQuery{Until: all[0].At.AddDate(100, 0, 0)}))
}

// whatDidNotEndHasNoEntry, and of many that end a lock one does.
func whatDidNotEndHasNoEntry(t *testing.T, s tested) {
	s.keeping()
	gone := s.create(newLock("robot-arm-1"))
	s.delete(gone.ID)
	_, err := s.Delete(t.Context(), gone.ID, store.Ending{})
	require.ErrorIs(t, err, store.ErrGone)
	held := s.handOver(gone.ID, queuedLock()).Created
	require.Len(t, s.history(store.HistoryQuery{}), 1)

	ends := []func() error{
		func() error {
			_, err := s.Delete(context.Background(), held.ID, store.Ending{})
			return err
		},
		func() error {
			_, err := s.HandOver(context.Background(), held.ID, store.Ending{},
				queuedLock())
			return err
		},
		func() error {
			_, err := s.Sweep(context.Background(), store.Limits{})
			return err
		},
	}
	for round := range 20 {
		held = s.expire(held.ID, time.Hour)
		concurrently(2*len(ends), func(i int) {
			if err := ends[i%len(ends)](); err != nil && err != store.ErrGone {
				t.Error(err)
			}
		})
		n := 0
		for _, e := range s.history(store.HistoryQuery{}) {
			if e.ID == held.ID {
				n++
			}
		}
		require.Equal(t, 1, n, "round %d", round)
		if held, err = s.Holder(t.Context(), "robot-arm-1"); err != nil {
			held = s.create(newLock("robot-arm-1"))
		}
	}
}

// aStoreKeepsNothingUnlessAsked.
func aStoreKeepsNothingUnlessAsked(t *testing.T, s tested) {
	s.delete(s.create(newLock("robot-arm-1")).ID)
	require.Empty(t, s.history(store.HistoryQuery{}))
	for _, none := range []store.HistoryLimits{{Age: time.Hour}, {Max: 10}, {}} {
		s.keeping()
		s.delete(s.create(newLock("robot-arm-1")).ID)
		require.NotEmpty(t, s.history(store.HistoryQuery{}))
		s.KeepHistory(none)
		s.delete(s.create(newLock("robot-arm-1")).ID)
		require.Empty(t, s.history(store.HistoryQuery{}))
	}
}

// theHistoryIsPruned to about its limits, the oldest first.
func theHistoryIsPruned(t *testing.T, s tested) {
	const most, slack = 500, 256
	s.KeepHistory(store.HistoryLimits{Age: aDay, Max: most})
	var mu sync.Mutex
	ended := make(map[string]bool)
	for range 8 {
		concurrently(250, func(i int) {
			lock, err := s.Create(context.Background(), newLock(fmt.Sprint("robot-arm-", i)))
			if err == nil {
				_, err = s.Delete(context.Background(), lock.ID, store.Ending{})
			}
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			ended[lock.ID] = true
			mu.Unlock()
		})
	}
	last := s.create(newLock("robot-arm-1"))
	s.delete(last.ID)
	require.Eventually(t, func() bool {
		_, err := s.Sweep(t.Context(), store.Limits{})
		require.NoError(t, err)
		return len(s.history(store.HistoryQuery{})) < most+slack
	}, 10*time.Second, time.Millisecond)
	all := s.history(store.HistoryQuery{})
	require.GreaterOrEqual(t, len(all), most)
	require.Equal(t, last.ID, all[0].ID, "the oldest go")
	for _, e := range all[1:] {
		require.True(t, ended[e.ID])
	}

	s.KeepHistory(store.HistoryLimits{Age: time.Millisecond, Max: most})
	require.Eventually(t, func() bool { return len(s.history(store.HistoryQuery{})) == 0 },
		10*time.Second, time.Millisecond, "what is older than the limit does not count")
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// RunDumps tests the Dump of the stores that newStore makes, as [Run] does. Load, unless it is nil,
// puts content into a new store of the kind, and opens that.
func RunDumps(
	t *testing.T, newStore func(t *testing.T) store.Store,
	load func(t *testing.T, c *store.Content) store.Store,
) {
	test := func(name string, run func(t *testing.T, s tested)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, tested{newStore(t), t}.keeping())
		})
	}
	test("ADumpHasAll", aDumpHasAll)
	test("ADumpIsOfOneInstant", aDumpIsOfOneInstant)
	test("ADumpEndsWithItsReader", aDumpEndsWithItsReader)
	if load == nil {
		return
	}
	test("ALoadedStoreIsEqual", func(t *testing.T, s tested) {
		s.populate()
		want := s.dump()
		loaded := tested{load(t, want.content()), t}.keeping()
		got := loaded.dump()
		got.At, got.Token = want.At, want.Token
		require.Equal(t, want, got)
		loaded.goesOn(want)
	})
	test("AnEmptyStoreCanBeLoaded", func(t *testing.T, s tested) {
		want := s.dump()
		require.Empty(t, tested{load(t, want.content()), t}.dump().locks())
	})
}

// dumped is content that was read to its end.
type dumped struct {
	store.Content
	ended []store.Ended
}

func (s tested) dump() (d dumped) {
	s.t.Helper()
	err := s.Store.(store.Dumper).Dump(s.t.Context(), func(c *store.Content) error {
		d.Content = *c
		d.History = nil
		for e, err := range c.History {
			if err != nil {
				return err
			}
			d.ended = append(d.ended, e)
		}
		return nil
	})
	require.NoError(s.t, err)
	return d
}

// content returns content to be loaded.
func (d dumped) content() *store.Content {
	c := d.Content
	c.History = func(yield func(store.Ended, error) bool) {
		for _, e := range d.ended {
			if !yield(e, nil) {
				return
			}
		}
	}
	return &c
}

func (d dumped) locks() (locks []store.Lock) {
	for _, r := range d.Locks {
		locks = append(locks, r.Lock)
	}
	return locks
}

// populate makes locks of all kinds, cancelled marks, and a history.
func (s tested) populate() {
	in := markedLock("leased", mark)
	in.Leased, in.TTL, in.Queued = true, time.Minute, 90*time.Second+time.Microsecond
	s.create(in)
	s.update(in.ID, store.Change{Extend: 36 * time.Hour})
	plain := newLock("plain")
	plain.Owner = "ä key 🤖"
	s.create(plain)
	far := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	s.update(plain.ID, store.Change{Creator: ptr("renamed\nto two lines"), ExpiresAt: &far})
	for i := range 300 {
		lock := s.create(newLock(fmt.Sprint("gone ", i%7)))
		end := store.Ending{How: store.Broken, By: "boss", Reason: "“it hangs”\n"}
		_, err := s.Delete(s.t.Context(), lock.ID, end)
		require.NoError(s.t, err)
		if i%10 == 0 {
			s.create(markedLock(fmt.Sprint("cancelled ", i), fmt.Sprint("mark ", i)))
			s.cancel(fmt.Sprint("mark ", i))
		}
	}
	expired := s.create(newLock("expired"))
	s.expire(expired.ID, time.Minute)
	_, err := s.Sweep(s.t.Context(), store.Limits{})
	require.NoError(s.t, err)
	past := s.create(newLock("past its lease"))
	s.expire(past.ID, time.Hour)
}

// goesOn requires that a store that was loaded with d knows what it must.
func (s tested) goesOn(d dumped) {
	s.t.Helper()
	locks, err := s.List(s.t.Context())
	require.NoError(s.t, err)
	require.Equal(s.t, d.locks(), locks)
	for _, lock := range locks {
		holder, err := s.Create(s.t.Context(), newLock(lock.Name))
		require.ErrorIs(s.t, err, store.ErrHeld)
		require.Equal(s.t, lock, holder)
	}
	require.Greater(s.t, s.create(newLock("robot-arm-1")).FencingToken, d.Token)
	_, err = s.Create(s.t.Context(), markedLock("robot-arm-2", "mark 290"))
	require.ErrorIs(s.t, err, store.ErrCancelled)
	_, found, err := s.Claim(s.t.Context(), owner, mark)
	require.NoError(s.t, err)
	require.Len(s.t, found, 1)
	require.Equal(s.t, "leased", found[0].Name)
	history := s.history(store.HistoryQuery{})
	slices.Reverse(history)
	require.Equal(s.t, d.ended, history)
	swept, err := s.Sweep(s.t.Context(), store.Limits{})
	require.NoError(s.t, err)
	require.Len(s.t, swept.Locks, 1)
	require.Equal(s.t, "past its lease", swept.Locks[0].Name)
	s.delete(found[0].ID)
}

func aDumpHasAll(t *testing.T, s tested) {
	s.populate()
	before := s.create(newLock("the last"))
	d := s.dump()
	require.Equal(t, before.FencingToken, d.Token)
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, locks, d.locks())
	for _, r := range d.Locks {
		switch r.Name {
		case "leased":
			require.Equal(t, mark, r.Mark)
			require.Equal(t, 90*time.Second+time.Microsecond, r.Waited)
			require.InDelta(t, 36*time.Hour+time.Minute, r.Lease, float64(time.Minute))
			fallthrough
		default:
			require.Equal(t, r.Name == "leased", r.Leased, r.Name)
		}
	}
	history := s.history(store.HistoryQuery{})
	slices.Reverse(history)
	require.Equal(t, history, d.ended)
	require.Len(t, d.ended, 331)
	require.Len(t, d.Marks, 30)
	for i, m := range d.Marks {
		require.Equal(t, owner, m.Owner)
		require.Equal(t, fmt.Sprint("mark ", 10*i), m.Mark)
		require.WithinDuration(t, d.At.Add(store.ClaimTime), m.Until, time.Minute)
	}
}

// aDumpIsOfOneInstant: while locks are created and deleted, a dump has each lock that was
// acknowledged before it, once, and none twice.
func aDumpIsOfOneInstant(t *testing.T, s tested) {
	const workers, dumps = 4, 10
	var mu sync.Mutex
	acknowledged := map[string]bool{} // by id: it was deleted
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range workers {
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				lock, err := s.Create(t.Context(), newLock(fmt.Sprint("lock ", i, "/", n%3)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acknowledged[lock.ID] = false
				mu.Unlock()
				if _, err := s.Delete(t.Context(), lock.ID, store.Ending{}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acknowledged[lock.ID] = true
				mu.Unlock()
			}
		})
	}
	for range dumps {
		mu.Lock()
		before := make(map[string]bool, len(acknowledged))
		for id, gone := range acknowledged {
			before[id] = gone
		}
		mu.Unlock()
		d := s.dump()
		found := map[string]bool{}
		for _, r := range d.Locks {
			found[r.ID] = false
			require.LessOrEqual(t, r.FencingToken, d.Token)
		}
		for _, e := range d.ended {
			_, twice := found[e.ID]
			require.False(t, twice, e.ID)
			found[e.ID] = true
			require.LessOrEqual(t, e.FencingToken, d.Token)
		}
		for id, gone := range before {
			end, there := found[id]
			require.True(t, there, id)
			require.True(t, end || !gone, "it is held again")
		}
	}
	stop()
	work.Wait()
}

// aDumpEndsWithItsReader: with its error, or with its context. The store goes on.
func aDumpEndsWithItsReader(t *testing.T, s tested) {
	s.populate()
	enough := errors.New("enough")
	dump := s.Store.(store.Dumper).Dump
	require.ErrorIs(t, dump(t.Context(), func(*store.Content) error { return enough }), enough)
	require.ErrorIs(t, dump(t.Context(), func(c *store.Content) error {
		for range c.History {
			return enough
		}
		return nil
	}), enough)
	s.create(newLock("afterwards"))
}

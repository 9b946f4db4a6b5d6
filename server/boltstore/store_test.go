package boltstore_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Parallel()
		return open(t, onDisk(t))
	})
}

// TestEverythingIsThereAfterARestart: to the last digit.
func TestEverythingIsThereAfterARestart(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	populate(t, s, 300) // more than fits into one page
	empty := ""
	in := newLock("ä \x00\xff 🤖") // not valid UTF-8
	in.Creator = &empty
	_, err := s.Create(t.Context(), in)
	require.NoError(t, err)
	far := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	_, err = s.Update(t.Context(), in.ID, store.Change{ExpiresAt: &far})
	require.NoError(t, err)
	in = newLock("no creator")
	in.Creator = nil
	_, err = s.Create(t.Context(), in)
	require.NoError(t, err)
	early := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err = s.Update(t.Context(), in.ID, store.Change{ExpiresAt: &early})
	require.NoError(t, err)

	want := s.Content()
	require.Len(t, want.Locks, 300*3/5+2)
	require.Len(t, want.Marks, 60)
	require.NoError(t, s.Close())
	requireContent(t, want, contentOf(t, path))

	s = open(t, path)
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, want.Locks, locks)
	for _, lock := range locks {
		got, err := s.Get(t.Context(), lock.ID)
		require.NoError(t, err)
		require.Equal(t, lock, got)
		holder, err := s.Create(t.Context(), newLock(lock.Name))
		require.ErrorIs(t, err, store.ErrHeld)
		require.Equal(t, lock, holder)
	}
	for k := range want.Marks {
		in := newLock("free")
		in.Owner, in.Mark = k.Owner, k.Mark
		_, err := s.Create(t.Context(), in)
		require.ErrorIs(t, err, store.ErrCancelled)
	}
	mark := locks[0].ID[:8]
	cancelled, err := s.Cancel(t.Context(), owner, mark)
	require.NoError(t, err)
	require.Equal(t, locks[:1], cancelled, "a lock is found by its mark also after a restart")
	swept, err := s.Sweep(t.Context(), store.Limits{})
	require.NoError(t, err)
	require.Len(t, swept.Locks, 1)
	require.Equal(t, in.ID, swept.Locks[0].ID, "by its expiry, too")
}

// TestTokensRise: through restarts, without any lock left, with the clock set back, and with an
// older file restored.
func TestTokensRise(t *testing.T) {
	path := newPath(t)
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := boltstore.WithClock(func() time.Time { return now })
	last := uint64(0)
	rises := func(s *boltstore.Store) {
		t.Helper()
		for range 3 {
			lock := create(t, s, "robot-arm-1")
			require.Greater(t, lock.FencingToken, last)
			require.Less(t, lock.FencingToken, uint64(1)<<53, "a number that JavaScript can hold")
			last = lock.FencingToken
			remove(t, s, lock.ID)
		}
	}
	for range 3 {
		s := open(t, path, clock)
		rises(s)
		require.NoError(t, s.Close())
	}
	now = now.Add(-10 * 365 * 24 * time.Hour)
	first := last
	s := open(t, path, clock)
	rises(s)
	require.Equal(t, first+3, last, "they go on where they were")
	require.NoError(t, s.Close())

	now = now.Add(20 * 365 * 24 * time.Hour)
	backup, err := os.ReadFile(path)
	require.NoError(t, err)
	s = open(t, path, clock)
	rises(s)
	require.NoError(t, s.Close())
	require.NoError(t, os.WriteFile(path, backup, 0o600))
	now = now.Add(time.Second)
	s = open(t, path, clock)
	require.Error(t, s.Spoil(), "nothing is remembered but what is on the disk")
	rises(s)
	require.NoError(t, s.Close())
	now = now.Add(time.Second)
	s = open(t, newPath(t), clock) // the file is lost
	rises(s)
}

// TestAMarkThatIsCancelledTwice is refused until the time of the second is over.
func TestAMarkThatIsCancelledTwice(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := open(t, newPath(t), boltstore.WithClock(func() time.Time { return now }))
	in := newLock("robot-arm-1")
	in.Mark = "mark"
	refused := func() {
		t.Helper()
		_, err := s.Create(t.Context(), in)
		require.ErrorIs(t, err, store.ErrCancelled)
		require.Equal(t, s.Content().Marks, s.Shown().Marks)
		require.Contains(t, s.Shown().Marks, lockset.Key{Owner: owner, Mark: "mark"})
	}
	cancel(t, s, "mark")
	refused()
	now = now.Add(9 * time.Minute)
	cancel(t, s, "mark")
	now = now.Add(2 * time.Minute)
	create(t, s, "robot-arm-2") // would forget the first
	refused()
	now = now.Add(8 * time.Minute)
	_, err := s.Create(t.Context(), in)
	require.NoError(t, err)
	require.Empty(t, s.Content().Marks)
	require.Empty(t, s.Shown().Marks)
}

// TestTheClockIsSetBack: what is there lives longer by that; all else is as ever.
func TestTheClockIsSetBack(t *testing.T) {
	path := newPath(t)
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := boltstore.WithClock(func() time.Time { return now })
	s := open(t, path, clock)
	first := create(t, s, "robot-arm-1")
	cancel(t, s, "mark")
	require.NoError(t, s.Close())

	now = now.Add(-time.Hour)
	s = open(t, path, clock)
	second := create(t, s, "robot-arm-2")
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.Lock{first, second}, locks, "in the order of creation")
	_, err = s.Create(t.Context(), newLock("robot-arm-1"))
	require.ErrorIs(t, err, store.ErrHeld)
	in := newLock("robot-arm-3")
	in.Mark = "mark"
	_, err = s.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrCancelled)

	swept, err := s.Sweep(t.Context(), store.Limits{})
	require.NoError(t, err)
	require.Equal(t, 10*time.Minute, swept.Next, "of the second")
	now = now.Add(swept.Next)
	swept, err = s.Sweep(t.Context(), store.Limits{})
	require.NoError(t, err)
	require.Equal(t, []store.Lock{second}, swept.Locks)
	require.Equal(t, time.Hour, swept.Next, "by which the first lives longer")

	lease := time.Minute
	renewed, err := s.Update(t.Context(), first.ID, store.Change{Lease: &lease})
	require.NoError(t, err)
	require.Equal(t, now.Add(time.Minute), renewed.ExpiresAt, "a heartbeat puts it right")
}

// TestMarksAreBounded: an owner can have store.MaxMarks. Those whose time is over go with what is
// written next, on disk too.
func TestMarksAreBounded(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := boltstore.WithClock(func() time.Time { return now })
	s := open(t, path, clock)
	s.CancelMany(owner, "old", store.MaxMarks)
	full := func() {
		t.Helper()
		before := s.Content()
		require.Len(t, before.Marks, store.MaxMarks)
		require.Equal(t, before.Marks, s.Shown().Marks)
		_, err := s.Cancel(t.Context(), owner, "one more")
		require.ErrorIs(t, err, store.ErrTooManyMarks)
		requireContent(t, before, s.Content())
	}
	full()
	require.NoError(t, s.Close())
	s = open(t, path, clock)
	full()

	now = now.Add(store.ClaimTime)
	for range store.MaxMarks/256 + 1 {
		cancel(t, s, "one more")
	}
	got := s.Content()
	require.Equal(t, map[lockset.Key]time.Time{
		{Owner: owner, Mark: "one more"}: now.Add(store.ClaimTime),
	}, got.Marks)
	require.Equal(t, got.Marks, s.Shown().Marks)
	require.NoError(t, s.Close())
	require.Equal(t, got.Marks, contentOf(t, path).Marks)
}

// TestPingBesideCheckpoints is for the race detector.
func TestPingBesideCheckpoints(t *testing.T) {
	s := open(t, newPath(t))
	pinged := later(func() error {
		for range 100 {
			if err := s.Ping(t.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range 20 {
		create(t, s, fmt.Sprint(i))
		s.Checkpoint()
	}
	require.NoError(t, <-pinged)
}

// TestReadingCostsNothing: neither do refusals, nor a sweep that finds nothing due.
func TestReadingCostsNothing(t *testing.T) {
	s := open(t, newPath(t))
	lock := create(t, s, "robot-arm-1")
	cancel(t, s, "mark")
	commits := s.CountCommits()
	_, err := s.Get(t.Context(), lock.ID)
	require.NoError(t, err)
	_, err = s.Holder(t.Context(), lock.Name)
	require.NoError(t, err)
	_, err = s.List(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Ping(t.Context()))
	_, err = s.Create(t.Context(), newLock(lock.Name))
	require.ErrorIs(t, err, store.ErrHeld)
	in := newLock("robot-arm-2")
	in.Mark = "mark"
	_, err = s.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrCancelled)
	_, locks, err := s.Claim(t.Context(), owner, lock.ID[:8])
	require.NoError(t, err)
	require.Equal(t, []store.Lock{lock}, locks)
	in.Mark = lock.ID[:8]
	for _, in.Name = range []string{"robot-arm-1", "robot-arm-2"} {
		_, err = s.Create(t.Context(), in)
		require.ErrorIs(t, err, store.ErrSuperseded)
	}
	_, err = s.Delete(t.Context(), newID(), store.Ending{})
	require.ErrorIs(t, err, store.ErrGone)
	_, err = s.Update(t.Context(), newID(), store.Change{})
	require.ErrorIs(t, err, store.ErrGone)
	_, err = s.Sweep(t.Context(), store.Limits{Grace: time.Hour})
	require.NoError(t, err)
	require.Zero(t, commits())
}

// TestAClosedStore: everything says so.
func TestAClosedStore(t *testing.T) {
	s := open(t, newPath(t))
	lock := create(t, s, "robot-arm-1")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "twice is once")
	for name, call := range map[string]func() error{
		"Create": func() error {
			_,
				err := s.Create(t.Context(), newLock("robot-arm-2"))
			return err
		},
		"Get":    func() error { _, err := s.Get(t.Context(), lock.ID); return err },
		"Holder": func() error { _, err := s.Holder(t.Context(), lock.Name); return err },
		"List":   func() error { _, err := s.List(t.Context()); return err },
		"Update": func() error {
			_,
				err := s.Update(t.Context(), lock.ID, store.Change{})
			return err
		},
		"Delete": func() error {
			_, err := s.Delete(t.Context(), lock.ID, store.Ending{})
			return err
		},
		"Claim":  func() error { _, _, err := s.Claim(t.Context(), owner, "mark"); return err },
		"Cancel": func() error { _, err := s.Cancel(t.Context(), owner, "mark"); return err },
		"Sweep":  func() error { _, err := s.Sweep(t.Context(), store.Limits{}); return err },
		"Ping":   func() error { return s.Ping(t.Context()) },
	} {
		err := call()
		require.ErrorIs(t, err, store.ErrUnavailable, name)
		require.ErrorContains(t, err, "is closed", name)
	}
	require.NoError(t, s.Watch(t.Context(), func(store.Event) { t.Error("nothing has happened") }))
}

// TestAnIDIsTakenOnce: an id that is used twice would leave a lock that nobody can reach.
func TestAnIDIsTakenOnce(t *testing.T) {
	s := open(t, newPath(t))
	lock := create(t, s, "robot-arm-1")
	in := newLock("robot-arm-2")
	in.ID = lock.ID
	_, err := s.Create(t.Context(), in)
	require.ErrorContains(t, err, fmt.Sprintf("its id %s is taken already", lock.ID))
}

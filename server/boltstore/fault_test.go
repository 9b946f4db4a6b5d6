package boltstore_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

var errDisk = errors.New("the disk is on fire")

// failing has the store's n-th write from now on go wrong, and all later ones while on is true.
type failing struct {
	on     atomic.Bool
	writes atomic.Int64
}

// how a write goes wrong.
var ways = map[string]func(page []byte, at int64, write boltstore.WriteFunc){
	"nothing is written": func([]byte, int64, boltstore.WriteFunc) {},
	"half is written": func(page []byte, at int64,
		write boltstore.WriteFunc) {
		write(page[:50], at)
	},
	// As when the sync fails.
	"all is written": func(page []byte, at int64,
		write boltstore.WriteFunc) {
		write(page, at)
	},
}

func fail(s *boltstore.Store, n int64, goWrong func([]byte, int64, boltstore.WriteFunc)) *failing {
	f := &failing{}
	s.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
		if i := f.writes.Add(1); i < n || i > n && !f.on.Load() {
			return write(page, at)
		}
		goWrong(page, at, write)
		return 0, errDisk
	})
	return f
}

// requireConsistent: the memory, what is shown and the file agree.
func requireConsistent(t *testing.T, s *boltstore.Store, path string) {
	t.Helper()
	want := contentOf(t, path)
	requireContent(t, want, s.Content())
	shown := s.Shown()
	require.Equal(t, want.Locks, shown.Locks)
	require.Equal(t, want.Marks, shown.Marks)
}

// attempt does op to the victim, or creates fresh.
func attempt(
	t *testing.T, s *boltstore.Store, op string, victim store.Lock, fresh store.NewLock,
) error {
	var err error
	lease := time.Hour
	switch op {
	case "create":
		_, err = s.Create(t.Context(), fresh)
	case "update":
		_, err = s.Update(t.Context(), victim.ID, store.Change{Lease: &lease})
	case "delete":
		_, err = s.Delete(t.Context(), victim.ID, store.Ending{})
	case "cancel":
		_, err = s.Cancel(t.Context(), owner, victim.ID[:8])
	case "sweep":
		_, err = s.Sweep(t.Context(), store.Limits{})
	case "hand over":
		_, err = s.HandOver(t.Context(), victim.ID, store.Ending{}, fresh)
	}
	return err
}

// TestAFailedWrite goes wrong at each write of a change in each way, in the log and in a
// checkpoint. The method fails, the memory is what the file is, and the next one works.
func TestAFailedWrite(t *testing.T) {
	t.Parallel()
	for way := range ways {
		for _, op := range []string{"create", "update", "delete", "cancel", "sweep",
			"hand over"} {
			t.Run(way+"/"+op+"/log", func(t *testing.T) { testAFailedWrite(t, way, op, false) })
			t.Run(way+"/"+op+"/checkpoint",
				func(t *testing.T) { testAFailedWrite(t, way, op, true) })
		}
	}
}

func testAFailedWrite(t *testing.T, way, op string, checkpoint bool) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, boltstore.WithSmallLog())
	populate(t, s, 50)
	n, cameAbout := int64(1), false
	for ; ; n++ {
		s.Checkpoint()
		victim := create(t, s, "victim")
		lease := -time.Hour
		victim, err := s.Update(t.Context(), victim.ID, store.Change{Lease: &lease})
		require.NoError(t, err)
		before := s.Content()

		if checkpoint {
			s.NoLog()
		}
		f := fail(s, n, ways[way])
		fresh := newLock("fresh")
		if op == "hand over" {
			fresh.Name = victim.Name
		}
		err = attempt(t, s, op, victim, fresh)
		if f.writes.Load() < n {
			require.NoError(t, err)
			break // all was tried
		}
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorIs(t, err, errDisk)
		require.ErrorContains(t, err, path)

		requireConsistent(t, s, path)
		after := s.Content()
		cameAbout = cameAbout || len(after.Locks) != len(before.Locks) ||
			(op == "update" || op == "hand over") &&
				!assert.ObjectsAreEqual(victim, after.Locks[len(after.Locks)-1])
		if !cameAbout {
			requireContent(t, before, after)
		}
		require.NoError(t, s.Ping(t.Context()), "it finds out by a write")
		again := create(t, s, "again")
		require.Greater(t, again.FencingToken, before.Token)
		remove(t, s, again.ID)
		for _, id := range []string{victim.ID, fresh.ID} {
			_, err = s.Delete(t.Context(), id, store.Ending{})
			require.True(t, err == nil || errors.Is(err, store.ErrGone), "%v", err)
		}
		requireConsistent(t, s, path)
	}
	if checkpoint {
		require.Greater(t, n, int64(3), "pages and a meta page")
	} else {
		require.EqualValues(t, 2, n, "a record")
	}
	require.Equal(t, way == "all is written", cameAbout, "by the last write")
	require.NoError(t, s.Close())
	contentOf(t, path)
}

// TestABatchFailsAsAWhole: nobody in it is told what was decided on something that came to nothing.
func TestABatchFailsAsAWhole(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		path := newPath(t)
		s := open(t, path)
		there := create(t, s, "there")
		before := s.Content()
		reached, pass := make(chan struct{}), make(chan struct{})
		writes, transactions := 0, 0
		s.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
			if writes++; writes == 1 {
				close(reached)
				<-pass
			}
			if s.IsLast(at) {
				if transactions++; transactions == 2 {
					return 0, errDisk
				}
			}
			return write(page, at)
		})
		begun := later(func() error {
			_,
				err := s.Create(context.Background(), newLock("begun"))
			return err
		})
		<-reached
		batch := []<-chan error{
			later(func() error {
				_,
					err := s.Create(context.Background(), newLock("fresh"))
				return err
			}),
			// Or ErrHeld.
			later(func() error {
				_,
					err := s.Create(context.Background(), newLock("fresh"))
				return err
			}),
			later(func() error {
				_, err := s.Delete(context.Background(), there.ID, store.Ending{})
				return err
			}),
			// Or ErrGone.
			later(func() error {
				_, err := s.Delete(context.Background(), there.ID, store.Ending{})
				return err
			}),
			later(func() error {
				_, err := s.Sweep(context.Background(), store.Limits{})
				return err
			}),
		}
		synctest.Wait()
		close(pass)
		require.NoError(t, <-begun)
		for _, done := range batch {
			err := <-done
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorIs(t, err, errDisk)
			require.NotErrorIs(t, err, store.ErrHeld)
			require.NotErrorIs(t, err, store.ErrGone)
		}
		require.Len(t, s.Content().Locks, len(before.Locks)+1)
		requireConsistent(t, s, path)
	})
}

// TestADiskThatStaysBroken: requests fail, reads go on, and all is well as soon as the disk is,
// without being asked.
func TestADiskThatStaysBroken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		path := newPath(t)
		var log strings.Builder
		s := open(t, path, boltstore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		there := create(t, s, "there")
		heard := make(chan store.Event, 10)
		ctx, cancel := context.WithCancel(t.Context())
		watched := later(func() error { return s.Watch(ctx, func(e store.Event) { heard <- e }) })

		var repaired atomic.Bool
		landed := false
		s.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
			if repaired.Load() {
				return write(page, at)
			}
			if s.IsLast(at) && !landed { // it gets there, but its sync fails
				landed = true
				write(page, at)
				return 0, errDisk
			}
			if s.IsLast(at) {
				return 0, errDisk // so does making sure
			}
			return write(page, at)
		})
		_, err := s.Delete(t.Context(), there.ID, store.Ending{})
		require.ErrorIs(t, err, errDisk)
		for range 3 {
			time.Sleep(time.Minute)
			_, err = s.Create(t.Context(), newLock("fresh"))
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorIs(t, err, errDisk)
			_, err = s.Sweep(t.Context(), store.Limits{})
			require.ErrorIs(t, err, store.ErrUnavailable, "not known whether something is due")
			require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
			got, err := s.Get(t.Context(), there.ID)
			require.NoError(t, err)
			require.Equal(t, there, got, "not deleted, as far as is known")
		}
		require.Empty(t, heard)

		repaired.Store(true)
		require.Equal(t, store.EventMissed, (<-heard).Kind, "within a second, by itself")
		_, err = s.Get(t.Context(), there.ID)
		require.ErrorIs(t, err, store.ErrGone, "it was deleted")
		require.NoError(t, s.Ping(t.Context()))
		create(t, s, "there")
		requireConsistent(t, s, path)
		cancel()
		<-watched
		require.NoError(t, s.Close())
		require.Equal(t, 1, strings.Count(log.String(), "the store can't be written"), log.String())
		require.Equal(t, 1, strings.Count(log.String(), "the store can be written again"),
			log.String())
	})
}

// TestATransactionThatPanics: the store is of no use until it is opened anew, but says so, and the
// process lives.
func TestATransactionThatPanics(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	there := create(t, s, "there")
	s.HookWrites(func([]byte, int64, boltstore.WriteFunc) (
		int, error) {
		panic("page 7 is haunted")
	})
	for _, hint := range []string{"", "; restart to use it again"} {
		_, err := s.Create(t.Context(), newLock("fresh"))
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err, path+": page 7 is haunted"+hint)
	}
	require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
	got, err := s.Get(t.Context(), there.ID)
	require.NoError(t, err)
	require.Equal(t, there, got)
	require.NoError(t, s.Close())
	require.Equal(t, []store.Lock{there}, contentOf(t, path).Locks)
	create(t, open(t, path), "fresh")
}

// TestARequestThatPanics: a bug costs those who share its transaction an error, not the process or
// what it has half done.
func TestARequestThatPanics(t *testing.T) {
	path := newPath(t)
	var log strings.Builder
	s := open(t, path, boltstore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	there := create(t, s, "there")
	err := s.Spoil()
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, "a bug")
	requireConsistent(t, s, path)
	holder, err := s.Create(t.Context(), newLock("there"))
	require.ErrorIs(t, err, store.ErrHeld)
	require.Equal(t, there, holder)
	require.Greater(t, create(t, s, "fresh").FencingToken, there.FencingToken)
	require.NoError(t, s.Close())
	require.Contains(t, log.String(), "Spoil", "the stack is logged")
}

// TestTheFileIsMovedAway: nothing more is acknowledged, because it would not be found again.
func TestTheFileIsMovedAway(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	there := create(t, s, "there")
	for name, away := range map[string]func(){
		"moved":    func() {},
		"replaced": func() { require.NoError(t, os.WriteFile(path, []byte("x"), 0o600)) },
	} {
		require.NoError(t, os.Rename(path, path+".bak"))
		away()
		_, err := s.Create(t.Context(), newLock(name))
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err,
			"moved, deleted or replaced while in use: put it back, or restart")
		require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
		_, err = s.Get(t.Context(), there.ID)
		require.NoError(t, err)
		require.NoError(t, os.Rename(path+".bak", path))
		require.NoError(t, s.Ping(t.Context()))
		create(t, s, name)
	}
	require.Len(t, contentOf(t, path).Locks, 3)
	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable,
		"also without a failed write before")
	require.NoError(t, s.Close())
}

package boltstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// alone runs the test in a process of its own, and reports whether this is that process: a limit is
// the whole process's, which writes other files as well.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childEnv) == "test" {
		return true
	}
	out, err := child(t, "test", "-test.run=^"+t.Name()+"$").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "PASS")
	return false
}

// fileLimit returns functions that limit the size of files, and lift the limit.
func fileLimit(t *testing.T) (limit func(size uint64), lift func()) {
	t.Helper()
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limit = func(size uint64) {
		require.NoError(t, syscall.Setrlimit(
			syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}))
	}
	return limit, func() { limit(before.Cur) }
}

// TestTheDiskIsFull: the kernel lets the file grow no more. Creates are refused, and that before
// renewals and releases have no space, however many come at once. All works when there is room
// again.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	if !alone(t) {
		return
	}
	for _, history := range []store.HistoryLimits{{}, keepAll} {
		for _, callers := range []int{1, 4, 100} {
			testFull(t, history, 64, callers, 1)
		}
	}
	testFull(t, store.HistoryLimits{}, 16, 1000, 10_000) // so many changes have no space in a write
}

// testFull has callers that come at once, and a log of so many pages. When the disk gets full there
// are so many locks.
func testFull(t *testing.T, history store.HistoryLimits, pages, callers, there int) {
	path := newPath(t)
	s := open(t, path, boltstore.WithLog(pages))
	s.KeepHistory(history)
	limit, lift := fileLimit(t)
	defer lift()
	var all errgroup.Group
	for i := range there {
		all.Go(func() error {
			_, err := s.Create(t.Context(), newLock(fmt.Sprint("there ", i)))
			return err
		})
	}
	require.NoError(t, all.Wait())
	info, err := os.Stat(path)
	require.NoError(t, err)
	limit(uint64(info.Size()))
	together := func(f func(i int) error) {
		t.Helper()
		var all errgroup.Group
		for i := range callers {
			all.Go(func() error { return f(i) })
		}
		require.NoError(t, all.Wait())
	}
	together(func(i int) error {
		for n := 0; ; n++ {
			_, err := s.Create(t.Context(), newLock(fmt.Sprint("fill ", i, " ", n)))
			if errors.Is(err, store.ErrNotDone) && strings.Contains(err.Error(), "disk is full") {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	locks := s.Content().Locks
	retries := 0
	if callers == 1000 {
		retries = 30
	}
	each := func(f func(id string) error) {
		t.Helper()
		together(func(i int) error {
			for n := i; n < len(locks); n += callers {
				err := f(locks[n].ID)
				for range retries {
					if err != nil {
						err = f(locks[n].ID)
					}
				}
				if err != nil {
					return fmt.Errorf("%d of %d: %w", n, len(locks), err)
				}
			}
			return nil
		})
	}
	for range 2 {
		each(func(id string) error {
			_, err := s.Update(t.Context(), id, store.Change{Extend: time.Hour})
			return err
		})
	}
	require.NoError(t, s.Ping(t.Context()))
	each(func(id string) error {
		_, err := s.Delete(t.Context(), id, store.Ending{})
		return err
	})
	limit(0) // nothing can be written at all
	for range 3 {
		_, err := s.Create(t.Context(), newLock("fresh"))
		require.ErrorIs(t, err, store.ErrUnavailable)
	}
	lift()
	require.Eventually(t, func() bool {
		_, err := s.Create(t.Context(), newLock("again"))
		return err == nil
	}, 10*time.Second, 100*time.Millisecond)
	requireConsistent(t, s, path)
}

// TestAFileOfBeforeOnAFullDisk has no log, and gets none as long as there is no space for it.
func TestAFileOfBeforeOnAFullDisk(t *testing.T) {
	t.Parallel()
	if !alone(t) {
		return
	}
	data, err := os.ReadFile("testdata/format3.db")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "locks.db")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	s := open(t, path)
	limit, lift := fileLimit(t)
	defer lift()
	limit(uint64(len(data)))
	for range 3 {
		for _, lock := range s.Content().Locks {
			_, err := s.Update(t.Context(), lock.ID, store.Change{Extend: time.Hour})
			require.NoError(t, err)
		}
	}
	require.False(t, s.HasLog())
	lift()
	require.Eventually(t, func() bool {
		_, err := s.Create(t.Context(), newLock("again"))
		return err == nil
	}, 10*time.Second, 100*time.Millisecond)
	s.Checkpoint()
	require.True(t, s.HasLog())
	requireConsistent(t, s, path)
}

// TestASyncFails: the last page of a transaction is written, the system call that syncs it fails,
// and so does everything that follows, until the disk is back. Then the transaction turns out to
// have come about.
func TestASyncFails(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	there := create(t, s, "there")

	// The file's descriptor is made to lead elsewhere for a while, to where there is nothing to
	// sync.
	fd := int(s.File().Fd())
	saved, err := syscall.Dup(fd)
	require.NoError(t, err)
	defer syscall.Close(saved)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(t, err)
	defer null.Close()
	cut := false
	s.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
		n, err := write(page, at)
		if s.IsLast(at) && !cut {
			cut = true
			if err := syscall.Dup3(int(null.Fd()), fd, 0); err != nil {
				return 0, err
			}
		}
		return n, err
	})
	_, err = s.Delete(t.Context(), there.ID, store.Ending{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, err, syscall.EINVAL)
	_, err = s.Create(t.Context(), newLock("fresh"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	got, err := s.Get(t.Context(), there.ID)
	require.NoError(t, err)
	require.Equal(t, there, got)
	_, err = boltstore.OpenWith(path)
	require.ErrorContains(t, err, "another process has it open")

	require.NoError(t, syscall.Dup3(saved, fd, 0))
	require.NoError(t, s.Ping(t.Context()))
	_, err = s.Get(t.Context(), there.ID)
	require.ErrorIs(t, err, store.ErrGone)
	create(t, s, "there")
	requireConsistent(t, s, path)
}

// TestTheFileIsCutShort by another program: the kernel faults a read of what is not there any
// more. The process lives, and the file is not taken for a store again.
func TestTheFileIsCutShort(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	populate(t, s, 100)
	want := s.Shown()
	require.NoError(t, os.Truncate(path, 2*s.PageSize()))
	for range 2 {
		_, err := s.Create(t.Context(), newLock("fresh"))
		require.ErrorIs(t, err, store.ErrUnavailable)
	}
	require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
	require.Equal(t, want, s.Shown())
	require.NoError(t, s.Close())
	for range 2 {
		_, err := boltstore.OpenWith(path)
		require.ErrorContains(t, err, "it is damaged")
	}
}

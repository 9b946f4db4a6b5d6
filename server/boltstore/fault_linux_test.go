package boltstore_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestTheDiskIsFull: the kernel lets the file grow no more. What needs no more room still works,
// and all of it when there is room again.
func TestTheDiskIsFull(t *testing.T) {
	// The limit is the whole process's, which writes other files as well.
	if os.Getenv(childEnv) != "test" {
		cmd := child(t, "test", "-test.run=^TestTheDiskIsFull$")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "PASS")
		return
	}
	path := newPath(t)
	s := open(t, path, boltstore.WithSmallLog())
	populate(t, s, 100)
	info, err := os.Stat(path)
	require.NoError(t, err)

	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limit := func(size uint64) {
		require.NoError(t, syscall.Setrlimit(
			syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}))
	}
	defer limit(before.Cur)
	limit(uint64(info.Size()))
	made, failed := 0, 0
	for failed < 20 {
		_, err := s.Create(t.Context(), newLock(fmt.Sprint("fill ", made)))
		if err == nil {
			made++
			continue
		}
		failed++
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err, "file too large") // as the kernel says it
	}
	limit(before.Cur) // the test itself writes files
	requireConsistent(t, s, path)
	require.Len(t, s.Content().Locks, 60+made)
	limit(uint64(info.Size()))
	for _, lock := range s.Content().Locks {
		_, err := s.Update(t.Context(), lock.ID, store.Change{Extend: time.Hour})
		require.NoError(t, err, "renewals go on")
	}
	deleted := 0
	for _, lock := range s.Content().Locks {
		if _, err := s.Delete(t.Context(), lock.ID, store.Ending{}); err == nil {
			deleted++
		}
	}
	require.Positive(t, deleted, "deleting makes room")
	for i := range made {
		_, err := s.Create(t.Context(), newLock(fmt.Sprint("fill again ", i)))
		require.NoError(t, err, "%d of %d", i, made)
	}

	limit(0) // nothing can be written at all
	for range 3 {
		_, err := s.Create(t.Context(), newLock("fresh"))
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
	}
	limit(before.Cur)
	require.NoError(t, s.Ping(t.Context()))
	populate(t, s, 300)
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

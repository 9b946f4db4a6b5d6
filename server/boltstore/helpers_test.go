package boltstore_test

import (
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// newPath returns a path for a store, on no disk: most tests count or fail writes and syncs, and
// would only wait for the disk.
func newPath(t testing.TB) string {
	if _, measured := t.(*testing.B); measured {
		return onDisk(t)
	}
	return filepath.Join(inMemory(t), "relukko", "locks.db")
}

func onDisk(t testing.TB) string { return filepath.Join(t.TempDir(), "relukko", "locks.db") }

// open opens a store that is closed when the test ends, if it is not closed by then.
func open(t testing.TB, path string, opts ...boltstore.Option) *boltstore.Store {
	t.Helper()
	s, err := boltstore.OpenWith(path, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

const owner = "ci-runner" // of newLock

func newLock(name string) store.NewLock {
	return store.NewLock{
		ID: newID(), Name: name, IP: "192.0.2.7", TTL: 10 * time.Minute, Owner: owner,
	}
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func create(t testing.TB, s *boltstore.Store, name string) store.Lock {
	t.Helper()
	in := newLock(name)
	creator := "bench-7 #" + in.ID[:8]
	in.Creator, in.Mark = &creator, in.ID[:8]
	lock, err := s.Create(t.Context(), in)
	require.NoError(t, err)
	return lock
}

func remove(t testing.TB, s *boltstore.Store, id string) {
	t.Helper()
	_, err := s.Delete(t.Context(), id, store.Ending{})
	require.NoError(t, err)
}

// keepAll is a history of all that has ended.
var keepAll = store.HistoryLimits{Age: 90 * 24 * time.Hour, Max: 1_000_000}

func historyOf(t testing.TB, s *boltstore.Store) []store.Ended {
	t.Helper()
	ended, err := s.History(t.Context(), store.HistoryQuery{Limit: math.MaxInt32})
	require.NoError(t, err)
	return ended
}

func cancel(t testing.TB, s *boltstore.Store, mark string) {
	t.Helper()
	_, err := s.Cancel(t.Context(), owner, mark)
	require.NoError(t, err)
}

// populate makes locks and marks, and some that are gone again.
func populate(t testing.TB, s *boltstore.Store, n int) {
	t.Helper()
	for i := range n {
		lock := create(t, s, fmt.Sprint("robot-arm-", i))
		switch i % 5 {
		case 1:
			_, err := s.Update(t.Context(), lock.ID, store.Change{Extend: time.Hour})
			require.NoError(t, err)
		case 3:
			remove(t, s, lock.ID)
		case 4:
			cancel(t, s, lock.ID[:8])
		}
	}
}

// contentOf answers what the store that is closed or idle at path has on disk.
func contentOf(t testing.TB, path string) boltstore.Content {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return contentOfImage(t, data)
}

func contentOfImage(t testing.TB, image []byte) boltstore.Content {
	t.Helper()
	path := filepath.Join(inMemory(t), "copy.db")
	require.NoError(t, os.WriteFile(path, image, 0o600))
	s, err := boltstore.OpenWith(path, boltstore.WithClock(longAgo))
	require.NoError(t, err)
	defer s.Close()
	return s.Content()
}

// longAgo is a clock that advances no token.
func longAgo() time.Time { return time.Unix(1, 0) }

func equal(a, b boltstore.Content) bool { return assert.ObjectsAreEqual(a, b) }

// requireContent says in short where two contents differ.
func requireContent(t testing.TB, want, got boltstore.Content, what ...any) {
	t.Helper()
	if equal(want, got) {
		return
	}
	differ := map[string]int{}
	for _, lock := range want.Locks {
		differ[fmt.Sprintf("%+v", told(lock))]++
	}
	for _, lock := range got.Locks {
		differ[fmt.Sprintf("%+v", told(lock))]--
	}
	for lock, n := range differ {
		if n != 0 {
			t.Logf("%+d: %s", -n, lock)
		}
	}
	require.Fail(t, "another content", "%v: %d locks, %d marks, token %d instead of %d, %d, %d",
		what,
		len(got.Locks), len(got.Marks), got.Token, len(want.Locks), len(want.Marks), want.Token)
}

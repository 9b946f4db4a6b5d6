package boltstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestFilesOfBefore opens files that earlier versions have written, at 03:04:05: their locks and
// marks are kept, and belong to "default". The locks of format 1 are not leased.
func TestFilesOfBefore(t *testing.T) {
	made := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	creator := "bench-7 #k3v5x2m4q7ab"
	want := []store.Lock{
		{Name: "robot-arm-1", ExpiresAt: made.Add(10 * time.Minute)},
		{Name: "robot-arm-2", ExpiresAt: made.Add(time.Minute), Creator: &creator},
		{Name: "robot-arm-3", ExpiresAt: made.Add(time.Minute)},
		{Name: "robot-arm-4", ExpiresAt: made.Add(time.Hour), Creator: &creator},
	}
	for i := range want {
		lock := &want[i]
		lock.ID = fmt.Sprint("950daa20-a814-451e-9407-ec496cf9c13", 6+i)
		lock.IP, lock.Owner = "192.0.2.7", "default"
		lock.CreatedAt, lock.UpdatedAt = made, made
		lock.FencingToken = uint64(made.UnixMicro()) + uint64(i)
	}
	for format, want := range map[string][]store.Lock{"1": want[:2], "2": want, "3": want} {
		t.Run(format, func(t *testing.T) {
			data, err := os.ReadFile("testdata/format" + format + ".db")
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "locks.db")
			require.NoError(t, os.WriteFile(path, data, 0o600))
			require.Equal(t, format, formatOf(t, path))
			testFileOfBefore(t, path, slices.Clip(want), made)
		})
	}
}

// TestTheHistoryOfAFormat3File has entries in two buckets, and keeps its order when they become
// one.
func TestTheHistoryOfAFormat3File(t *testing.T) {
	data, err := os.ReadFile("testdata/format3.db")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "locks.db")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	clock := boltstore.WithClock(func() time.Time {
		return time.Date(2030, 1, 2, 3, 4, 6, 0, time.UTC)
	})
	var want []string
	check := func() *boltstore.Store {
		s := open(t, path, clock)
		s.KeepHistory(keepAll)
		var got []string
		for _, e := range historyOf(t, s) {
			got = append(got, e.Name)
		}
		require.Equal(t, want, got)
		return s
	}
	for i := range 10 {
		want = append(want, fmt.Sprint("gone-", 9-i))
	}
	require.NoError(t, check().Close())
	s := check()
	remove(t, s, create(t, s, "the next").ID)
	want = append([]string{"the next"}, want...)
	require.NoError(t, s.Close())
	check()
}

// TestACompactedFile keeps the records of its log, also where its pages have another size now.
func TestACompactedFile(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	populate(t, s, 50)
	s.Checkpoint()
	create(t, s, "the last but one")
	create(t, s, "the last")
	want := s.Content()
	require.NoError(t, s.Close())
	for _, size := range []int{1024, 4096, 16384, 65536} {
		compacted := filepath.Join(t.TempDir(), "compacted.db")
		from, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
		require.NoError(t, err)
		to, err := bolt.Open(compacted, 0o600, &bolt.Options{PageSize: size})
		require.NoError(t, err)
		require.NoError(t, bolt.Compact(to, from, 0))
		require.NoError(t, errors.Join(to.Close(), from.Close()))
		s := open(t, compacted)
		requireContent(t, want, s.Content(), size)
		for i := range 5 {
			create(t, s, fmt.Sprint("new ", i))
			s.Checkpoint()
			create(t, s, fmt.Sprint("newer ", i))
		}
		requireConsistent(t, s, compacted)
		require.NoError(t, s.Close())
	}
}

func testFileOfBefore(t *testing.T, path string, want []store.Lock, made time.Time) {
	now := made
	clock := boltstore.WithClock(func() time.Time { return now })
	format := formatOf(t, path)
	s := open(t, path, clock)
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, locks)
	content := s.Content()
	require.Len(t, content.Marks, 1)
	require.Contains(t, content.Marks, lockset.Key{Owner: "default", Mark: "aaaaaaaaaaaa"})
	require.NoError(t, s.Close())
	require.Equal(t, format, formatOf(t, path), "nothing was changed")

	s = open(t, path, clock)
	in := newLock("robot-arm-5")
	in.Owner, in.Mark = "default", "aaaaaaaaaaaa"
	_, err = s.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrCancelled)
	in.Owner, in.TTL, in.Leased = owner, time.Minute, true
	leased, err := s.Create(t.Context(), in)
	require.NoError(t, err, "of another owner")
	require.NoError(t, s.Close())
	require.Equal(t, "4", formatOf(t, path), "an earlier version refuses it from here on")

	s = open(t, path, clock)
	locks, err = s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, append(want, leased), locks, "beside each other")
	_, locks, err = s.Claim(t.Context(), "default", "k3v5x2m4q7ab")
	require.NoError(t, err)
	require.Equal(t, want[1:2], locks)
	_, err = s.Cancel(t.Context(), "default", "aaaaaaaaaaaa")
	require.NoError(t, err)
	renewed, err := s.Update(t.Context(), want[0].ID, store.Change{Extend: time.Hour})
	require.NoError(t, err)
	require.Equal(t, "default", renewed.Owner)

	now = made.Add(3 * time.Minute)
	limits := store.Limits{Grace: 2*time.Minute + 1, Latest: now, Steady: time.Hour}
	swept, err := s.Sweep(t.Context(), limits)
	require.NoError(t, err)
	want = want[1:]
	if len(want) > 1 { // robot-arm-3
		require.Equal(t, want[1], swept.Locks[0])
		want, swept.Locks = append(want[:1:1], want[2:]...), swept.Locks[1:]
	}
	require.Equal(t, []store.Lock{leased}, swept.Locks)
	limits.Grace--
	swept, err = s.Sweep(t.Context(), limits)
	require.NoError(t, err)
	require.Equal(t, want[:1], swept.Locks)
	content = s.Content()
	require.NoError(t, s.Close())
	requireContent(t, content, contentOf(t, path))
	require.Equal(t, append([]store.Lock{renewed}, want[1:]...), content.Locks)
}

func formatOf(t *testing.T, path string) string {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	var format string
	require.NoError(t, db.View(func(tx *bolt.Tx) error {
		format = string(tx.Bucket([]byte("relukko")).Get([]byte("format")))
		return nil
	}))
	return format
}

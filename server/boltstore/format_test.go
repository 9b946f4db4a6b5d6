package boltstore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestAFileOfFormat1 opens a file that the version before leased locks has written, at 03:04:05:
// its locks are kept, and are not leased.
func TestAFileOfFormat1(t *testing.T) {
	data, err := os.ReadFile("testdata/format1.db")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "locks.db")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	require.Equal(t, "1", formatOf(t, path))

	made := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	now := made
	clock := boltstore.WithClock(func() time.Time { return now })
	s, err := boltstore.OpenWith(path, clock)
	require.NoError(t, err)
	creator := "bench-7 #k3v5x2m4q7ab"
	first := store.Lock{
		ID: "950daa20-a814-451e-9407-ec496cf9c136", Name: "robot-arm-1", IP: "192.0.2.7",
		ExpiresAt: made.Add(10 * time.Minute), CreatedAt: made, UpdatedAt: made,
		FencingToken: uint64(made.UnixMicro()),
	}
	second := store.Lock{
		ID: "950daa20-a814-451e-9407-ec496cf9c137", Name: "robot-arm-2", IP: "192.0.2.7",
		Creator: &creator, ExpiresAt: made.Add(time.Minute), CreatedAt: made, UpdatedAt: made,
		FencingToken: uint64(made.UnixMicro()) + 1,
	}
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.Lock{first, second}, locks)
	require.NoError(t, s.Close())
	require.Equal(t, "1", formatOf(t, path), "nothing was changed")

	s, err = boltstore.OpenWith(path, clock)
	require.NoError(t, err)
	in := newLock("robot-arm-3")
	in.Mark = "aaaaaaaaaaaa"
	_, err = s.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrCalledOff, "the marks are kept, too")
	in.Mark, in.TTL, in.Leased = "", time.Minute, true
	leased, err := s.Create(t.Context(), in)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Equal(t, "2", formatOf(t, path), "an earlier version refuses it from here on")

	s, err = boltstore.OpenWith(path, clock)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	now = made.Add(3 * time.Minute)
	limits := store.Limits{Grace: 2*time.Minute + 1, Latest: now, Steady: time.Hour}
	swept, err := s.Sweep(t.Context(), limits)
	require.NoError(t, err)
	require.Equal(t, []store.Lock{leased}, swept.Locks)
	limits.Grace--
	swept, err = s.Sweep(t.Context(), limits)
	require.NoError(t, err)
	require.Equal(t, []store.Lock{second}, swept.Locks)
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

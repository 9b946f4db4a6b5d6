package boltstore_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestADamagedFileIsRefused, and left as it is. Every byte that is in use is: one that is changed
// makes Open fail, or was that of a place not in use; only when it belongs to what was written
// last, a record of the log or a meta page, the store is as it was before that, as when a write was
// not whole.
func TestADamagedFileIsRefused(t *testing.T) {
	t.Parallel()
	for _, checkpoint := range []bool{false, true} {
		t.Run(fmt.Sprint("checkpoint=", checkpoint),
			func(t *testing.T) {
				t.Parallel()
				testDamage(t, checkpoint)
			})
	}
}

func testDamage(t *testing.T, checkpoint bool) {
	path := newPath(t)
	s := open(t, path, boltstore.WithClock(longAgo), boltstore.WithSmallLog())
	s.KeepHistory(keepAll)
	populate(t, s, 160)
	before := s.Content()
	if checkpoint {
		s.NoLog()
	}
	create(t, s, "the last")
	after := s.Content()
	pageSize := int(s.PageSize())
	require.NoError(t, s.Close())
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	image = image[:s.Used()]

	damaged := filepath.Join(inMemory(t), "damaged.db")
	refused, harmless, older := 0, 0, 0
	isLast := s.IsLast
	check := func(what string, image []byte, at int) {
		t.Helper()
		require.NoError(t, os.WriteFile(damaged, image, 0o600))
		s, err := boltstore.OpenWith(damaged, boltstore.WithClock(longAgo))
		if err != nil {
			refused++
			require.ErrorContains(t, err, "relukko: store "+damaged+": ", what)
			require.ErrorContains(t, err, "damaged", what)
			require.ErrorContains(t, err, "It was left as it is: ", what)
			left, err := os.ReadFile(damaged)
			require.NoError(t, err)
			require.Equal(t, image, left, what)
			return
		}
		got := s.Content()
		require.NoError(t, s.Close())
		if isLast(int64(at)) && equal(before, got) {
			older++
			return
		}
		harmless++
		requireContent(t, after, got, what)
	}
	flip := func(at int) {
		changed := append([]byte(nil), image...)
		changed[at] ^= 1 << rand.N(8)
		check(fmt.Sprint("byte ", at), changed, at)
	}
	for page := 0; page < len(image); page += pageSize {
		if !bytes.ContainsFunc(image[page:page+pageSize], func(r rune) bool { return r != 0 }) {
			continue // never used
		}
		for i := range 48 { // the header, and the first elements
			flip(page + i)
		}
	}
	for range 500 {
		flip(rand.N(len(image)))
	}
	for range 100 {
		cut := rand.N(len(image)-1) + 1
		check(fmt.Sprint("cut at ", cut), image[:cut], cut)
	}
	for range 50 { // a page that was never written, or is another's
		from, to := rand.N(len(image)/pageSize-2)+2, rand.N(len(image)/pageSize-2)+2
		changed := append([]byte(nil), image...)
		copy(changed[to*pageSize:(to+1)*pageSize], image[from*pageSize:])
		check(fmt.Sprint("page ", from, " in place of ", to), changed, to*pageSize)
		clear(changed[to*pageSize : (to+1)*pageSize])
		check(fmt.Sprint("page ", to, " is empty"), changed, to*pageSize)
	}
	t.Logf("%d refused, %d harmless, %d one transaction older", refused, harmless, older)
	require.Greater(t, refused, 300)
	require.Positive(t, older)
}

// TestALostWriteIsNoticed: a lock is there as it was before its last change, with a checksum that
// is right. The sum over all shows it.
func TestALostWriteIsNoticed(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	populate(t, s, 10)
	lock := create(t, s, "robot-arm-1 once more")
	s.Checkpoint()
	require.NoError(t, s.Close())
	key := binary.BigEndian.AppendUint64(nil, lock.FencingToken)
	var old []byte
	edit := func(do func(locks *bolt.Bucket) error) {
		db, err := bolt.Open(path, 0, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(
			func(tx *bolt.Tx) error { return do(tx.Bucket([]byte("locks"))) }))
		require.NoError(t, db.Close())
	}
	edit(func(locks *bolt.Bucket) error {
		old = bytes.Clone(locks.Get(key))
		return nil
	})
	require.NotEmpty(t, old)

	s = open(t, path)
	lease := time.Hour
	_, err := s.Update(t.Context(), lock.ID, store.Change{Lease: &lease})
	require.NoError(t, err)
	s.Checkpoint()
	require.NoError(t, s.Close())
	edit(func(locks *bolt.Bucket) error { return locks.Put(key, old) })
	_, err = boltstore.OpenWith(path)
	require.ErrorContains(t, err, "it is damaged (the sum over all 7 locks and 2 marks is wrong)")
	edit(func(locks *bolt.Bucket) error { return locks.Delete(key) })
	_, err = boltstore.OpenWith(path)
	require.ErrorContains(t, err,
		"it is damaged (there are 6 locks and 2 marks, where 7 and 2 should be)")
}

// TestADamagedRecordIsNoticed: a record of the log that others follow, and a checkpoint without
// which the records after it mean nothing.
func TestADamagedRecordIsNoticed(t *testing.T) {
	path := newPath(t)
	s := open(t, path, boltstore.WithSmallLog())
	populate(t, s, 10)
	s.Checkpoint()
	create(t, s, "the last but one")
	create(t, s, "the last")
	want := s.Content()
	require.NoError(t, s.Close())
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	meta := func(i int64) []byte { return image[i*s.PageSize()+16:] }
	newest := int64(0) // the one with the greater transaction id, which is at 48
	if binary.NativeEndian.Uint64(meta(1)[48:]) > binary.NativeEndian.Uint64(meta(0)[48:]) {
		newest = 1
	}
	refuses := func(why string, at int64) {
		t.Helper()
		changed := bytes.Clone(image)
		changed[at] ^= 0x10
		require.NoError(t, os.WriteFile(path, changed, 0o600))
		_, err := boltstore.OpenWith(path)
		require.ErrorContains(t, err, "it is damaged ("+why+")")
	}
	refuses("log: record 0: a checksum is wrong", s.LogAt()+100)
	root := s.LogAt() - s.PageSize()
	refuses(fmt.Sprintf("page %d is longer than its values", root/s.PageSize()), root+16+13)
	refuses("log: the checkpoint before it is missing", newest*s.PageSize()+16+48)

	copy(image[s.LogAt()+2*s.PageSize():], image[s.LogAt():s.LogAt()+s.PageSize()])
	require.NoError(t, os.WriteFile(path, image, 0o600))
	requireContent(t, want, contentOf(t, path), "a record counts in its place only")
}

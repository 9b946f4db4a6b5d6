package boltstore

import (
	"bytes"
	"context"
	"time"

	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/server/store"
)

const dumpBatch = 1000 // entries of the history that are copied in one go, while changes wait

// Dump implements [store.Dumper]. It keeps no read transaction open, which would make the file grow
// as long as a slow client takes: locks and marks are copied at one instant, and the history up to
// that instant in small steps. What is removed from the history meanwhile may be missing.
func (s *Store) Dump(ctx context.Context, use func(*store.Content) error) error {
	var c *store.Content
	var ended time.Time
	err := s.submit(ctx, func(w *state) { c, ended = w.Content(s.clock()), w.Ended })
	if err != nil {
		return err
	}
	c.History = func(yield func(store.Ended, error) bool) {
		if !ended.IsZero() {
			s.yieldEnded(ctx, codec.AppendMoment(nil, ended), yield)
		}
	}
	return use(c)
}

// yieldEnded yields the entries of the history up to the key last.
func (s *Store) yieldEnded(
	ctx context.Context, last []byte, yield func(store.Ended, error) bool,
) {
	var after []byte
	for more := true; more; {
		var entries []change
		var err error
		failed := s.submit(ctx, func(w *state) { entries, err = s.disk.nextEnded(w, after, last) })
		switch {
		case failed != nil:
			yield(store.Ended{}, failed)
			return
		case err != nil:
			yield(store.Ended{}, s.unavailable(err))
			return
		}
		for _, c := range entries {
			e, err := decodeEnded(c.key, c.value)
			if !yield(e, err) || err != nil {
				return
			}
			after = c.key
		}
		more = len(entries) >= dumpBatch
	}
}

// nextEnded returns entries of the history after one key, up to another: at least dumpBatch of
// them, or all.
func (d *disk) nextEnded(w *state, after, last []byte) (entries []change, err error) {
	if d.lost != nil {
		return nil, d.lost
	}
	defer d.caught(&err)
	wanted := func(key []byte) bool {
		return bytes.Compare(key, after) > 0 && bytes.Compare(key, last) <= 0
	}
	err = d.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketHistory))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for key, value := c.Seek(after); key != nil && len(entries) < dumpBatch; {
			if bytes.Compare(key, last) > 0 {
				break
			}
			if wanted(key) {
				entries = append(entries,
					change{key: bytes.Clone(key), value: bytes.Clone(value)})
			}
			key, value = c.Next()
		}
		return nil
	})
	if len(entries) < dumpBatch { // those in bucketRecent come after the others
		for _, c := range w.recent {
			if wanted(c.key) {
				entries = append(entries, c)
			}
		}
	}
	return entries, err
}

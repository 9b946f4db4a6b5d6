package boltstore

import (
	"bytes"
	"context"
	"slices"

	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/server/store"
)

const scanBatch = 2000 // entries that are looked at in one go, while changes wait

// KeepHistory implements [store.Store]. A checkpoint removes entries that are too old or too many;
// there is one when they are many.
func (s *Store) KeepHistory(limits store.HistoryLimits) { s.keep.Store(&limits) }

// History implements [store.Store]. The committer reads it, between two writes: then all that
// is in the file is durable.
func (s *Store) History(ctx context.Context, q store.HistoryQuery) ([]store.Ended, error) {
	found := []store.Ended{}
	limits := s.keep.limits()
	if limits.None() {
		return found, s.view.open()
	}
	if oldest := s.clock().Add(-limits.Age); q.Since.Before(oldest) {
		q.Since = oldest
	}
	if !q.Until.IsZero() && q.Until.Before(q.Since) {
		return found, s.view.open()
	}
	for more := true; more; {
		var err error
		failed := s.submit(ctx, func(w *state) { more, err = s.disk.history(w, &q, &found) })
		if failed != nil {
			return nil, failed
		}
		if err != nil {
			return nil, s.unavailable(err)
		}
	}
	return found, nil
}

// history adds entries that q selects to found. It reports whether there may be more, and then sets
// the end of q to where it stopped.
func (d *disk) history(
	w *state, q *store.HistoryQuery, found *[]store.Ended,
) (more bool, err error) {
	if d.lost != nil {
		return false, d.lost
	}
	for _, c := range slices.Backward(w.recent) {
		at := (&codec.Decoder{Rest: c.key}).Moment()
		if at.Before(q.Since) || len(*found) == q.Limit {
			return false, nil
		}
		if !q.Until.IsZero() && at.After(q.Until) {
			continue
		}
		if err := addEnded(q, c.key, c.value, found); err != nil {
			return false, err
		}
	}
	err = d.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketHistory))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		key, value := c.Last()
		if !q.Until.IsZero() {
			key, value = lastUntil(c, codec.AppendMoment(nil, q.Until))
		}
		for n := 0; key != nil && len(*found) < q.Limit; n++ {
			at := (&codec.Decoder{Rest: key}).Moment()
			if at.Before(q.Since) {
				return nil
			}
			if n == scanBatch {
				q.Until, more = at, true
				return nil
			}
			if err := addEnded(q, key, value, found); err != nil {
				return err
			}
			key, value = c.Prev()
		}
		return nil
	})
	return more, err
}

// addEnded adds an entry to found if it has the name that q asks for.
func addEnded(q *store.HistoryQuery, key, value []byte, found *[]store.Ended) error {
	if q.Name != "" && nameOfEnded(value) != q.Name {
		return nil
	}
	e, err := decodeEnded(key, value)
	if err == nil {
		*found = append(*found, e)
	}
	return err
}

// lastUntil moves c to the last key that is not after until.
func lastUntil(c *bolt.Cursor, until []byte) (key, value []byte) {
	switch key, value = c.Seek(until); {
	case key == nil:
		return c.Last()
	case !bytes.Equal(key, until):
		return c.Prev()
	}
	return key, value
}

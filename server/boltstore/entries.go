package boltstore

import (
	"bytes"
	"time"

	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/codec"
)

const (
	pruneExcess = 256  // entries that may be too many, or a hundredth of all if that is more
	pruneBatch  = 4096 // entries that one checkpoint removes at most
)

// pruneDue reports whether there are many entries too many, or one is a tenth older than it may be,
// at most an hour. Otherwise prune can wait for the next checkpoint.
func (w *state) pruneDue(now time.Time) bool {
	limits := w.keep.limits()
	switch {
	case w.nEnded == 0:
		return false
	case limits.None():
		return true
	}
	late := min(limits.Age/10, time.Hour)
	return w.nEnded >= uint64(limits.Max)+uint64(max(pruneExcess, limits.Max/100)) ||
		w.oldest.Before(now.Add(-limits.Age-late))
}

// prune removes entries that are too old or too many from their bucket, which has all.
func (w *state) prune(tx *bolt.Tx, now time.Time) error {
	b := tx.Bucket([]byte(bucketHistory))
	if b == nil {
		return nil
	}
	limits := w.keep.limits()
	oldest := now.Add(-limits.Age)
	var keys [][]byte
	c := b.Cursor()
	key, _ := c.First()
	for ; key != nil && len(keys) < pruneBatch; key, _ = c.Next() {
		w.oldest = (&codec.Decoder{Rest: key}).Moment()
		if !limits.None() && w.nEnded <= uint64(limits.Max) && !w.oldest.Before(oldest) {
			break
		}
		keys = append(keys, bytes.Clone(key))
		w.nEnded--
	}
	for _, key := range keys {
		if err := b.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

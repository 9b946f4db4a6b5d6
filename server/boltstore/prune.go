package boltstore

import (
	"bytes"
	"time"

	bolt "go.etcd.io/bbolt"
)

const pruneBatch = 256 // entries that one transaction removes at most

// prune stages the removal of entries that are too old or too many. Since each transaction that
// removes any writes further pages, it waits until there are many, or until one is a tenth older
// than it may be, at most an hour.
func (w *state) prune(d *disk, now time.Time) {
	if w.nEnded == 0 {
		return
	}
	limits := w.keep.limits()
	oldest := now.Add(-limits.Age)
	excess := int64(w.nEnded) - int64(limits.Max)
	if limits.None() {
		oldest, excess = now, int64(w.nEnded)
	} else if excess < pruneBatch && !w.oldest.Before(oldest.Add(-min(limits.Age/10, time.Hour))) {
		return
	}
	keys, err := d.firstEnded(pruneBatch + 1)
	if err != nil {
		return // the write finds out
	}
	for i, key := range keys {
		w.oldest = (&decoder{rest: key}).moment()
		if i == pruneBatch || int64(i) >= excess && !w.oldest.Before(oldest) {
			return
		}
		w.stage(change{bucket: bucketHistory, key: key})
		w.nEnded--
	}
}

// firstEnded returns the first n keys of the history, or all.
func (d *disk) firstEnded(n int) (keys [][]byte, err error) {
	if d.lost != nil {
		return nil, d.lost
	}
	defer d.caught(&err)
	err = d.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketHistory))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for key, _ := c.First(); key != nil && len(keys) < n; key, _ = c.Next() {
			keys = append(keys, bytes.Clone(key))
		}
		return nil
	})
	return keys, err
}

package boltstore

import (
	"bytes"
	"time"

	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/codec"
)

const (
	pruneBatch = 256 // entries that one transaction removes at most

	// A bucket of less than 1 KiB is part of the page that each transaction writes anyway.
	maxRecent = 1000
)

// stageEnded stages the new entries of the history: for bucketRecent, which costs no page of its
// own, or, when that is full, all of it for bucketHistory. So of the transactions that come alone,
// only a few write pages of the history.
func (w *state) stageEnded() {
	if len(w.ended) == 0 {
		return
	}
	old := len(w.recent)
	w.recent = append(w.recent, w.ended...)
	w.ended = w.ended[:0]
	size := 0
	for _, c := range w.recent {
		size += elementSize + len(c.key) + len(c.value)
	}
	full := size > maxRecent
	for i, c := range w.recent {
		switch {
		case full:
			if i < old {
				w.stage(change{bucket: bucketRecent, key: c.key})
			}
			w.stage(change{bucket: bucketHistory, key: c.key, value: c.value})
		case i >= old:
			w.stage(change{bucket: bucketRecent, key: c.key, value: c.value})
		}
	}
	if full {
		w.recent = nil
	}
}

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
		for _, c := range w.recent {
			w.stage(change{bucket: bucketRecent, key: c.key})
		}
		w.nEnded -= uint64(len(w.recent))
		w.recent = nil
		oldest, excess = now, int64(w.nEnded)
	} else if excess < pruneBatch && !w.oldest.Before(oldest.Add(-min(limits.Age/10, time.Hour))) {
		return
	}
	keys, err := d.firstEnded(pruneBatch + 1)
	if err != nil {
		return // the write finds out
	}
	for i, key := range keys {
		w.oldest = (&codec.Decoder{Rest: key}).Moment()
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

package boltstore

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// forgetBatch is the number of marks, whose time has run out, that one write removes at most.
const forgetBatch = 256

// state is what the committer decides on: what is on disk, and the changes that are to be written
// next. Only the committer sees it.
type state struct {
	*lockset.State
	sum     uint64    // of the checksums of all locks and cancelled marks
	recent  []change  // entries of the history that are not in its bucket yet
	nEnded  uint64    // all entries
	oldest  time.Time // at least as old as the first of them
	keep    *keep     // the committer's
	changes []change  // not on disk yet, in order
	created bool      // some of the changes are creates, and not by a hand-over
	touched bool      // a write is wanted even without changes
}

// change is one change on disk: a lock, a cancelled mark or an entry of the history is put, or
// removed when value is nil.
type change struct {
	bucket string
	key    []byte
	value  []byte
	lock   *lockset.Record // put or removed, or
	mark   *lockset.Mark   // or, for the history, neither
}

// keep is what is kept of what has ended; nothing at first.
type keep struct {
	atomic.Pointer[store.HistoryLimits]
}

func (k *keep) limits() store.HistoryLimits {
	if l := k.Load(); l != nil && !l.None() {
		return *l
	}
	return store.HistoryLimits{}
}

func newState() *state {
	w := &state{keep: new(keep)}
	w.State = lockset.NewState(w)
	return w
}

// summary returns the summary to be written with the changes.
func (w *state) summary() *summary {
	return &summary{
		token: w.Token, number: w.Cancelled.Last,
		nLocks: uint64(w.Len()), nMarks: uint64(w.Cancelled.Len()), sum: w.sum,
		nEnded: w.nEnded,
	}
}

// touch makes the committer write, whether or not anything changed.
func (w *state) touch() { w.touched = true }

// PutLock implements lockset.Journal.
func (w *state) PutLock(r *lockset.Record) {
	if old := w.ByID(r.ID); old != nil {
		w.sum -= uint64(old.Sum)
	}
	key := numberKey(r.FencingToken)
	w.stage(change{bucket: bucketLocks, key: key, value: encodeRecord(key, r), lock: r})
	w.sum += uint64(r.Sum)
}

// DropLock implements lockset.Journal.
func (w *state) DropLock(r *lockset.Record, end store.Ended) {
	w.stage(change{bucket: bucketLocks, key: numberKey(r.FencingToken), lock: r})
	w.sum -= uint64(r.Sum)
	if w.keep.limits().None() {
		return
	}
	key := codec.AppendMoment(nil, end.At)
	entry := change{bucket: bucketHistory, key: key, value: encodeEnded(key, &end)}
	w.stage(entry)
	w.recent = append(w.recent, entry)
	if w.nEnded++; w.nEnded == 1 {
		w.oldest = end.At
	}
}

// PutMark implements lockset.Journal.
func (w *state) PutMark(m *lockset.Mark) {
	key := numberKey(m.Number)
	w.stage(change{bucket: bucketMarks, key: key, value: encodeMark(key, m), mark: m})
	w.sum += uint64(m.Sum)
}

// DropMark implements lockset.Journal.
func (w *state) DropMark(m *lockset.Mark) {
	w.stage(change{bucket: bucketMarks, key: numberKey(m.Number), mark: m})
	w.sum -= uint64(m.Sum)
}

func (w *state) stage(c change) { w.changes = append(w.changes, c) }

// load adds what is on disk.
func (w *state) load(tx *bolt.Tx) error {
	s, err := decodeSummary(tx.Bucket([]byte(bucketStore)).Get([]byte(keyState)))
	if err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	w.Token, w.Cancelled.Last = s.token, s.number
	for _, part := range []struct {
		bucket string
		load   func(key, value []byte) error
	}{
		{bucketLocks, w.loadLock}, {bucketMarks, w.loadMark},
		{bucketHistory, w.loadEnded}, {bucketRecent, w.loadRecent},
	} {
		if b := tx.Bucket([]byte(part.bucket)); b != nil {
			if err := b.ForEach(part.load); err != nil {
				return err
			}
		}
	}
	switch found := w.summary(); {
	case found.nLocks != s.nLocks || found.nMarks != s.nMarks:
		return fmt.Errorf("there are %d locks and %d marks, where %d and %d should be",
			found.nLocks, found.nMarks, s.nLocks, s.nMarks)
	case found.nEnded != s.nEnded:
		return fmt.Errorf("the history has %d entries, where %d should be",
			found.nEnded, s.nEnded)
	case found.sum != s.sum:
		return fmt.Errorf("the sum over all %d locks and %d marks is wrong", s.nLocks, s.nMarks)
	}
	return nil
}

// loadLock adds a lock that is on disk.
func (w *state) loadLock(key, value []byte) error {
	r, err := decodeRecord(key, value)
	switch {
	case err != nil:
		return fmt.Errorf("lock %x: %w", key, err)
	case w.ByID(r.ID) != nil || w.ByName(r.Name) != nil:
		return fmt.Errorf("lock %q is in it twice", r.Name)
	case r.FencingToken > w.Token:
		return fmt.Errorf("lock %q has fencing token %d, the last one is %d",
			r.Name, r.FencingToken, w.Token)
	}
	w.Insert(r)
	w.sum += uint64(r.Sum)
	return nil
}

// loadMark adds a cancelled mark that is on disk.
func (w *state) loadMark(key, value []byte) error {
	m, err := decodeMark(key, value)
	if err != nil {
		return fmt.Errorf("mark %x: %w", key, err)
	}
	w.Cancelled.Load(m)
	w.sum += uint64(m.Sum)
	return nil
}

// loadEnded counts an entry of the history that is on disk.
func (w *state) loadEnded(key, value []byte) error {
	if _, _, err := unseal(bucketHistory, key, value); err != nil {
		return fmt.Errorf("history %x: %w", key, err)
	}
	w.Ended = (&codec.Decoder{Rest: key}).Moment()
	if w.nEnded++; w.nEnded == 1 {
		w.oldest = w.Ended
	}
	return nil
}

// loadRecent adds an entry of bucketRecent that is on disk.
func (w *state) loadRecent(key, value []byte) error {
	w.recent = append(w.recent,
		change{bucket: bucketHistory, key: bytes.Clone(key), value: bytes.Clone(value)})
	return w.loadEnded(key, value)
}

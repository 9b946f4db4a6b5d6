package boltstore

import (
	"fmt"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server"
)

const (
	maxTombstones = 100_000 // called-off marks that are remembered, the oldest go first
	sweepBatch    = 256     // locks that one Sweep deletes at most
	forgetBatch   = 256     // tombstones that are forgotten with one transaction at most
)

// state is what the committer decides on: what is on disk, plus the changes that are on their way there. Only
// the committer sees it.
type state struct {
	summary
	byID    map[string]*item
	byName  map[string]*item
	byMark  map[string][]*item
	due     expiry
	off     map[string]*tombstone // the latest of each mark
	marks   []*tombstone          // by number
	changes []change              // not on disk yet, in order
	touched bool                  // a transaction is wanted even without changes
}

// change is one change on disk: a lock or a tombstone is put, or removed when value is nil.
type change struct {
	bucket string
	key    []byte
	value  []byte
	lock   *record    // put or removed, or
	mark   *tombstone // put or removed
}

func newState() *state {
	return &state{
		byID:   make(map[string]*item),
		byName: make(map[string]*item),
		byMark: make(map[string][]*item),
		off:    make(map[string]*tombstone),
	}
}

func (w *state) create(in server.NewLock, now time.Time) (server.Lock, error) {
	if in.Mark != "" && w.calledOff(in.Mark, now) {
		return server.Lock{}, server.ErrCalledOff
	}
	if holder := w.byName[in.Name]; holder != nil {
		return holder.Lock, server.ErrHeld
	}
	if w.byID[in.ID] != nil {
		return server.Lock{}, fmt.Errorf("relukko: lock %q: its id %s is taken already", in.Name, in.ID)
	}
	w.token++
	r := &record{
		Lock: server.Lock{
			ID: in.ID, Name: in.Name, Creator: in.Creator, IP: in.IP,
			ExpiresAt: now.Add(in.TTL.Truncate(time.Microsecond)), CreatedAt: now, UpdatedAt: now,
			FencingToken: w.token,
		},
		mark: in.Mark,
	}
	w.stagePut(r)
	w.insert(r)
	return r.Lock, nil
}

func (w *state) update(id string, c server.Change, now time.Time) (server.Lock, error) {
	i := w.byID[id]
	if i == nil {
		return server.Lock{}, server.ErrGone
	}
	r := *i.record
	switch {
	case c.ExpiresAt != nil:
		r.ExpiresAt = *c.ExpiresAt
	case c.Lease != nil:
		r.ExpiresAt = now.Add(*c.Lease)
	default:
		r.ExpiresAt = r.ExpiresAt.Add(c.Extend)
	}
	r.ExpiresAt = r.ExpiresAt.UTC().Truncate(time.Microsecond)
	if year := r.ExpiresAt.Year(); year < 1 || year > 9999 {
		return server.Lock{}, server.ErrOutOfRange
	}
	if c.Creator != nil {
		r.Creator = c.Creator
	}
	r.UpdatedAt = now
	w.sum -= uint64(i.sum)
	w.nLocks--
	w.stagePut(&r)
	i.record = &r
	w.due.fix(i)
	return r.Lock, nil
}

func (w *state) delete(id string) (server.Lock, error) {
	i := w.byID[id]
	if i == nil {
		return server.Lock{}, server.ErrGone
	}
	w.remove(i)
	return i.Lock, nil
}

func (w *state) callOff(mark string, keep time.Duration, now time.Time) []server.Lock {
	if keep > 0 {
		w.number++
		t := &tombstone{number: w.number, mark: mark, until: now.Add(keep).Truncate(time.Microsecond)}
		key := numberKey(t.number)
		w.changes = append(w.changes, change{bucket: bucketMarks, key: key, value: t.encode(key), mark: t})
		w.bury(t)
		w.nMarks++
		w.sum += uint64(t.sum)
		for len(w.marks) > maxTombstones {
			w.forgetFirst()
		}
	}
	var locks []server.Lock
	for _, i := range slices.Clone(w.byMark[mark]) {
		w.remove(i)
		locks = append(locks, i.Lock)
	}
	return locks
}

func (w *state) sweep(grace time.Duration, now time.Time) (swept []server.Lock, next time.Duration) {
	for len(w.due) > 0 {
		i := w.due[0]
		if left := i.ExpiresAt.Add(grace).Sub(now); left > 0 {
			return swept, left
		}
		if len(swept) == sweepBatch {
			return swept, 0
		}
		w.remove(i)
		swept = append(swept, i.Lock)
	}
	return swept, server.Never
}

// forget drops tombstones in front whose time has run out: not all at once, so that no request waits long for it.
func (w *state) forget(now time.Time) {
	for range forgetBatch {
		if len(w.marks) == 0 || now.Before(w.marks[0].until) {
			return
		}
		w.forgetFirst()
	}
}

func (w *state) calledOff(mark string, now time.Time) bool {
	t := w.off[mark]
	return t != nil && now.Before(t.until)
}

// insert takes a lock into the indexes.
func (w *state) insert(r *record) {
	i := &item{record: r}
	w.byID[r.ID] = i
	w.byName[r.Name] = i
	if r.mark != "" {
		i.markPos = len(w.byMark[r.mark])
		w.byMark[r.mark] = append(w.byMark[r.mark], i)
	}
	w.due.push(i)
}

// stagePut has a lock written.
func (w *state) stagePut(r *record) {
	key := r.key()
	w.changes = append(w.changes, change{bucket: bucketLocks, key: key, value: r.encode(key), lock: r})
	w.sum += uint64(r.sum)
	w.nLocks++
}

// remove has a lock deleted.
func (w *state) remove(i *item) {
	w.changes = append(w.changes, change{bucket: bucketLocks, key: i.key(), lock: i.record})
	w.sum -= uint64(i.sum)
	w.nLocks--
	delete(w.byID, i.ID)
	delete(w.byName, i.Name)
	w.due.remove(i)
	if i.mark == "" {
		return
	}
	// Many may bear the same mark: nothing keeps people from ending a creator in something like " #7".
	same := w.byMark[i.mark]
	last := len(same) - 1
	same[i.markPos] = same[last]
	same[i.markPos].markPos = i.markPos
	same[last] = nil
	if last == 0 {
		delete(w.byMark, i.mark)
	} else {
		w.byMark[i.mark] = same[:last]
	}
}

// bury takes a tombstone into the index.
func (w *state) bury(t *tombstone) {
	w.marks = append(w.marks, t)
	w.off[t.mark] = t
}

func (w *state) forgetFirst() {
	t := w.marks[0]
	w.marks[0] = nil
	w.marks = w.marks[1:]
	w.changes = append(w.changes, change{bucket: bucketMarks, key: numberKey(t.number), mark: t})
	w.sum -= uint64(t.sum)
	w.nMarks--
	if w.off[t.mark] == t { // else called off once more since
		delete(w.off, t.mark)
	}
}

// touch has a transaction made, whether or not there is anything to write.
func (w *state) touch() { w.touched = true }

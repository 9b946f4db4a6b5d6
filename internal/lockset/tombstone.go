package lockset

import "time"

// MaxTombstones is the number of marks that Tombstones remembers.
const MaxTombstones = 100_000

// A Tombstone is a mark that was called off, and is refused until its time.
type Tombstone struct {
	Mark   string
	Until  time.Time
	Number uint64 // rises in the order of the calls
	Sum    uint32 // for the store's own use
}

// Tombstones are marks that were called off, in the order of the calls. The zero value has none.
type Tombstones struct {
	Last   uint64 // the number of the last one
	latest map[string]*Tombstone
	queue  []*Tombstone // by number
}

// Has reports whether the mark is called off.
func (t *Tombstones) Has(mark string, now time.Time) bool {
	tomb := t.latest[mark]
	return tomb != nil && now.Before(tomb.Until)
}

// Add adds a tombstone with the next number.
func (t *Tombstones) Add(tomb *Tombstone) {
	t.Last++
	tomb.Number = t.Last
	t.Load(tomb)
}

// Load adds a tombstone that has a number already, greater than those before it.
func (t *Tombstones) Load(tomb *Tombstone) {
	if t.latest == nil {
		t.latest = make(map[string]*Tombstone)
	}
	t.latest[tomb.Mark] = tomb
	t.queue = append(t.queue, tomb)
}

// Forget drops the first tombstones and returns them: at most so many whose time has run out, and
// all beyond the last MaxTombstones.
func (t *Tombstones) Forget(now time.Time, atMost int) (forgotten []*Tombstone) {
	for len(t.queue) > 0 {
		first := t.queue[0]
		if len(t.queue) <= MaxTombstones && (len(forgotten) >= atMost || now.Before(first.Until)) {
			break
		}
		t.queue[0] = nil
		t.queue = t.queue[1:]
		if t.latest[first.Mark] == first { // otherwise called off again since
			delete(t.latest, first.Mark)
		}
		forgotten = append(forgotten, first)
	}
	return forgotten
}

// Len returns the number of tombstones.
func (t *Tombstones) Len() int { return len(t.queue) }

// Latest returns the latest tombstone of each mark. The caller must not change the map.
func (t *Tombstones) Latest() map[string]*Tombstone { return t.latest }

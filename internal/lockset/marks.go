package lockset

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// A Key identifies a mark: the same mark of another owner is another mark.
type Key struct{ Owner, Mark string }

// A Mark is a mark that was claimed or cancelled, and is remembered until its time.
type Mark struct {
	Key
	Until  time.Time
	Number uint64 // rises in the order of the calls
	Sum    uint32 // for the store's own use
}

// Claims are the latest claims of marks. They are safe for concurrent use. The zero value has none.
type Claims struct {
	mu    sync.RWMutex
	marks Marks
}

// Claim returns a new claim of the mark.
func (c *Claims) Claim(k Key, now time.Time) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks.Forget(now, 2) // more than are added
	c.marks.Add(&Mark{Key: k, Until: now.Add(store.ClaimTime)})
	return c.marks.Last
}

// Supersede reports whether the mark of the create has a later claim than the create.
func (c *Claims) Supersede(in *store.NewLock) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	latest := c.marks.Latest()[Key{in.Owner, in.Mark}]
	return latest != nil && latest.Number > in.Claim
}

// Marks are marks in the order in which they were claimed or cancelled. The zero value has none.
type Marks struct {
	Last   uint64 // the number of the last one
	latest map[Key]*Mark
	owned  map[string]int // how many there are, by owner
	queue  []numbered
	len    int // the marks in the queue
}

// numbered is a mark in the queue. When that is replaced its number stays, without it.
type numbered struct {
	number uint64
	mark   *Mark
}

// Has reports whether the mark is one of them, and its time has not run out.
func (m *Marks) Has(k Key, now time.Time) bool {
	mark := m.latest[k]
	return mark != nil && now.Before(mark.Until)
}

// Add adds a mark with the next number, and returns the one that it replaces, or nil.
func (m *Marks) Add(mark *Mark) (replaced *Mark) {
	if replaced = m.latest[mark.Key]; replaced != nil {
		i, _ := slices.BinarySearchFunc(m.queue, replaced.Number, func(p numbered, n uint64) int {
			return cmp.Compare(p.number, n)
		})
		m.queue[i].mark = nil
		m.removed(replaced)
	}
	m.Last++
	mark.Number = m.Last
	m.Load(mark)
	if len(m.queue) > 2*m.len+16 {
		m.queue = slices.DeleteFunc(m.queue, func(p numbered) bool { return p.mark == nil })
	}
	return replaced
}

// Load adds a mark that has a number already, greater than those before it. It replaces none.
func (m *Marks) Load(mark *Mark) {
	if m.latest == nil {
		m.latest = make(map[Key]*Mark)
		m.owned = make(map[string]int)
	}
	m.latest[mark.Key] = mark
	m.owned[mark.Owner]++
	m.queue = append(m.queue, numbered{mark.Number, mark})
	m.len++
}

// Forget drops the first marks, at most so many, whose time has run out, and returns them.
func (m *Marks) Forget(now time.Time, atMost int) (forgotten []*Mark) {
	for len(m.queue) > 0 && len(forgotten) < atMost {
		first := m.queue[0].mark
		if first != nil && now.Before(first.Until) {
			break
		}
		m.queue[0].mark = nil
		m.queue = m.queue[1:]
		if first != nil {
			m.removed(first)
			forgotten = append(forgotten, first)
		}
	}
	return forgotten
}

// removed records that a mark is not in the queue any more.
func (m *Marks) removed(mark *Mark) {
	m.len--
	if m.owned[mark.Owner]--; m.owned[mark.Owner] == 0 {
		delete(m.owned, mark.Owner)
	}
	if m.latest[mark.Key] == mark { // otherwise there is a later one, which was loaded
		delete(m.latest, mark.Key)
	}
}

// Len returns the number of marks.
func (m *Marks) Len() int { return m.len }

// Owned returns the number of marks of the owner.
func (m *Marks) Owned(owner string) int { return m.owned[owner] }

// all yields the marks in their order.
func (m *Marks) all() iter.Seq[*Mark] {
	return func(yield func(*Mark) bool) {
		for _, p := range m.queue {
			if p.mark != nil && !yield(p.mark) {
				return
			}
		}
	}
}

// Latest returns the latest mark of each key. The caller must not change the map.
func (m *Marks) Latest() map[Key]*Mark { return m.latest }

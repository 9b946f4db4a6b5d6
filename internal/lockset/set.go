package lockset

import (
	"container/heap"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// A Record is a lock with its mark. It is immutable once it is in a Set: an update replaces it.
type Record struct {
	store.Record
	Sum uint32 // for the store's own use
}

// due returns when the record's grace is over; for one that is not leased, without the grace.
func (r *Record) due() time.Time {
	if r.Leased {
		return r.ExpiresAt.Add(store.LeaseGrace(r.Lease))
	}
	return r.ExpiresAt
}

func (r *Record) key() Key { return Key{r.Owner, r.Mark} }

// A Set is locks, found by id, by name, by mark and by when they are due to be swept.
type Set struct {
	byID   map[string]*item
	byName map[string]*item
	byMark map[Key][]*item
	plain  dueHeap // the records that are not leased
	leased dueHeap
}

// item has a record in a Set, and stays when the record is replaced.
type item struct {
	*Record
	at          time.Time // when it is due
	pos, marked int       // its positions in its heap and in byMark
}

func newSet() Set {
	return Set{
		byID: make(map[string]*item), byName: make(map[string]*item),
		byMark: make(map[Key][]*item),
	}
}

// ByID returns the record with that id, or nil.
func (s *Set) ByID(id string) *Record { return s.byID[id].record() }

// ByName returns the record with that name, or nil.
func (s *Set) ByName(name string) *Record { return s.byName[name].record() }

// Len returns the number of records.
func (s *Set) Len() int { return len(s.byID) }

// Records returns all records, in no particular order.
func (s *Set) Records() []*Record {
	records := make([]*Record, 0, len(s.byID))
	for _, i := range s.byID {
		records = append(records, i.Record)
	}
	return records
}

// Insert adds a record whose id and name are not in the set.
func (s *Set) Insert(r *Record) {
	i := &item{Record: r, at: r.due()}
	s.byID[r.ID], s.byName[r.Name] = i, i
	if k := r.key(); r.Mark != "" {
		i.marked = len(s.byMark[k])
		s.byMark[k] = append(s.byMark[k], i)
	}
	heap.Push(s.heapOf(r), i)
}

// replace puts the record in the place of the one with its id, which is leased if r is.
func (s *Set) replace(r *Record) {
	i := s.byID[r.ID]
	i.Record, i.at = r, r.due()
	heap.Fix(s.heapOf(r), i.pos)
}

func (s *Set) remove(r *Record) {
	i := s.byID[r.ID]
	delete(s.byID, r.ID)
	delete(s.byName, r.Name)
	if r.Mark != "" {
		s.unmark(i)
	}
	heap.Remove(s.heapOf(r), i.pos)
}

// unmark removes an item from byMark: the last one with its mark takes its position.
func (s *Set) unmark(i *item) {
	same := s.byMark[i.key()]
	last := same[len(same)-1]
	same[i.marked], last.marked = last, i.marked
	clear(same[len(same)-1:])
	if same = same[:len(same)-1]; len(same) == 0 {
		delete(s.byMark, i.key())
	} else {
		s.byMark[i.key()] = same
	}
}

func (s *Set) heapOf(r *Record) *dueHeap {
	if r.Leased {
		return &s.leased
	}
	return &s.plain
}

// marked returns the records with that mark.
func (s *Set) marked(k Key) (records []*Record) {
	for _, i := range s.byMark[k] {
		records = append(records, i.Record)
	}
	return records
}

func (i *item) record() *Record {
	if i == nil {
		return nil
	}
	return i.Record
}

// dueHeap implements heap.Interface: what is due first is at its top.
type dueHeap []*item

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *dueHeap) Push(x any) {
	i := x.(*item)
	i.pos = len(*h)
	*h = append(*h, i)
}

func (h *dueHeap) Pop() any {
	old := *h
	last := len(old) - 1
	i := old[last]
	old[last] = nil
	*h = old[:last]
	return i
}

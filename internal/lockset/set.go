package lockset

import (
	"container/heap"

	"gitlab.com/relukko/relukko-go/server/store"
)

// A Record is a lock with its mark. It is immutable once it is in a Set: an update replaces it.
type Record struct {
	store.Lock
	Mark string
	Sum  uint32 // for the store's own use
}

// A Set is locks, found by id, by name, by mark and by expiry.
type Set struct {
	byID   map[string]*item
	byName map[string]*item
	byMark Index[string, *item]
	due    expiryHeap
}

// item is a record's place in a Set. It stays when the record is replaced.
type item struct {
	*Record
	due, marked int // its positions in the heap and in the index
}

func (i *item) IndexPos() *int { return &i.marked }

func newSet() Set { return Set{byID: make(map[string]*item), byName: make(map[string]*item)} }

// ByID returns the record with that id, or nil.
func (s *Set) ByID(id string) *Record { return s.byID[id].record() }

// ByName returns the record with that name, or nil.
func (s *Set) ByName(name string) *Record { return s.byName[name].record() }

// Len returns the number of records.
func (s *Set) Len() int { return len(s.due) }

// Records returns all records, in no particular order.
func (s *Set) Records() []*Record {
	records := make([]*Record, len(s.due))
	for i, it := range s.due {
		records[i] = it.Record
	}
	return records
}

// Insert adds a record whose id and name are not in the set.
func (s *Set) Insert(r *Record) {
	i := &item{Record: r}
	s.byID[r.ID], s.byName[r.Name] = i, i
	if r.Mark != "" {
		s.byMark.Add(r.Mark, i)
	}
	heap.Push(&s.due, i)
}

// replace puts the record in the place of the one with its id.
func (s *Set) replace(r *Record) {
	i := s.byID[r.ID]
	i.Record = r
	heap.Fix(&s.due, i.due)
}

func (s *Set) remove(r *Record) {
	i := s.byID[r.ID]
	delete(s.byID, r.ID)
	delete(s.byName, r.Name)
	if r.Mark != "" {
		s.byMark.Remove(r.Mark, i)
	}
	heap.Remove(&s.due, i.due)
}

// marked returns the records with that mark.
func (s *Set) marked(mark string) (records []*Record) {
	for _, i := range s.byMark.All(mark) {
		records = append(records, i.Record)
	}
	return records
}

// first returns the record that expires first, or nil.
func (s *Set) first() *Record {
	if len(s.due) == 0 {
		return nil
	}
	return s.due[0].Record
}

func (i *item) record() *Record {
	if i == nil {
		return nil
	}
	return i.Record
}

// expiryHeap implements heap.Interface: what expires first is at its top.
type expiryHeap []*item

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].ExpiresAt.Before(h[j].ExpiresAt) }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].due, h[j].due = i, j
}

func (h *expiryHeap) Push(x any) {
	i := x.(*item)
	i.due = len(*h)
	*h = append(*h, i)
}

func (h *expiryHeap) Pop() any {
	old := *h
	last := len(old) - 1
	i := old[last]
	old[last] = nil
	*h = old[:last]
	return i
}

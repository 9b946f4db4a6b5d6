package server

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	maxTombstones = 100_000 // called-off marks that a MemoryStore remembers
	sweepBatch    = 256     // locks that one Sweep deletes at most, so that nobody waits long for the mutex
)

// MemoryStore keeps the locks in memory: for tests, and where losing them with the process is all right. One
// server only can use it. Its fencing tokens start from this machine's clock, in microseconds, so that they go on rising when
// a process starts anew.
type MemoryStore struct {
	now func() time.Time

	mu     sync.Mutex
	byID   map[string]*entry
	byName map[string]*entry
	byMark map[string][]*entry
	due    expiryHeap
	token  uint64 // the last one given out
	off    tombstones
}

type entry struct {
	Lock
	mark    string
	markPos int // among those with the same mark
	pos     int // in the heap
}

// A MemoryOption sets up a MemoryStore.
type MemoryOption func(*MemoryStore)

// WithClockOffset has the store's clock differ from this machine's by d.
func WithClockOffset(d time.Duration) MemoryOption {
	return func(m *MemoryStore) { m.now = func() time.Time { return time.Now().Add(d) } }
}

// NewMemoryStore makes an empty store.
func NewMemoryStore(opts ...MemoryOption) *MemoryStore {
	m := &MemoryStore{
		now:    time.Now,
		byID:   make(map[string]*entry),
		byName: make(map[string]*entry),
		byMark: make(map[string][]*entry),
	}
	for _, o := range opts {
		o(m)
	}
	m.token = uint64(time.Now().UnixMicro())
	return m
}

var _ HandOverStore = (*MemoryStore)(nil)

func (m *MemoryStore) time() time.Time { return m.now().UTC().Truncate(time.Microsecond) }

// Create implements Store.
func (m *MemoryStore) Create(_ context.Context, in NewLock) (Lock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.create(in)
}

func (m *MemoryStore) create(in NewLock) (Lock, error) {
	now := m.time()
	if in.Mark != "" && m.off.has(in.Mark, now) {
		return Lock{}, ErrCalledOff
	}
	if holder := m.byName[in.Name]; holder != nil {
		return holder.Lock, ErrHeld
	}
	m.token++
	e := &entry{
		Lock: Lock{
			ID: in.ID, Name: in.Name, Creator: in.Creator, IP: in.IP,
			ExpiresAt: now.Add(in.TTL.Truncate(time.Microsecond)), CreatedAt: now, UpdatedAt: now,
			FencingToken: m.token,
		},
		mark: in.Mark,
	}
	m.byID[e.ID] = e
	m.byName[e.Name] = e
	if e.mark != "" {
		e.markPos = len(m.byMark[e.mark])
		m.byMark[e.mark] = append(m.byMark[e.mark], e)
	}
	m.due.push(e)
	return e.Lock, nil
}

// Get implements Store.
func (m *MemoryStore) Get(_ context.Context, id string) (Lock, error) { return m.find(m.byID, id) }

// Holder implements Store.
func (m *MemoryStore) Holder(_ context.Context, name string) (Lock, error) {
	return m.find(m.byName, name)
}

func (m *MemoryStore) find(index map[string]*entry, key string) (Lock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := index[key]; e != nil {
		return e.Lock, nil
	}
	return Lock{}, ErrGone
}

// List implements Store.
func (m *MemoryStore) List(context.Context) ([]Lock, error) {
	m.mu.Lock()
	locks := make([]Lock, 0, len(m.byID))
	for _, e := range m.due {
		locks = append(locks, e.Lock)
	}
	m.mu.Unlock()
	slices.SortFunc(locks, func(a, b Lock) int {
		if a.FencingToken < b.FencingToken {
			return -1
		}
		return 1
	})
	return locks, nil
}

// Update implements Store.
func (m *MemoryStore) Update(_ context.Context, id string, change Change) (Lock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byID[id]
	if e == nil {
		return Lock{}, ErrGone
	}
	now := m.time()
	expires := e.ExpiresAt
	switch {
	case change.ExpiresAt != nil:
		expires = *change.ExpiresAt
	case change.Lease != nil:
		expires = now.Add(*change.Lease)
	default:
		expires = expires.Add(change.Extend)
	}
	expires = expires.UTC().Truncate(time.Microsecond)
	if !inRange(expires) {
		return Lock{}, ErrOutOfRange
	}
	if change.Creator != nil {
		e.Creator = change.Creator
	}
	e.UpdatedAt = now
	e.ExpiresAt = expires
	m.due.fix(e)
	return e.Lock, nil
}

// inRange tells whether t can be written in RFC 3339, whose years have four digits.
func inRange(t time.Time) bool { return 1 <= t.Year() && t.Year() <= 9999 }

// Delete implements Store.
func (m *MemoryStore) Delete(_ context.Context, id string) (Lock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.delete(id)
}

func (m *MemoryStore) delete(id string) (Lock, error) {
	e := m.byID[id]
	if e == nil {
		return Lock{}, ErrGone
	}
	m.remove(e)
	return e.Lock, nil
}

// HandOver implements HandOverStore.
func (m *MemoryStore) HandOver(_ context.Context, id string, next NewLock) (h Handover, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h.Deleted, h.DeleteErr = m.delete(id)
	h.Created, h.CreateErr = m.create(next)
	return h, nil
}

func (m *MemoryStore) remove(e *entry) {
	delete(m.byID, e.ID)
	delete(m.byName, e.Name)
	m.due.remove(e)
	if e.mark == "" {
		return
	}
	// Many may bear the same mark: nothing keeps people from ending a creator in something like " #7".
	same := m.byMark[e.mark]
	last := len(same) - 1
	same[e.markPos] = same[last]
	same[e.markPos].markPos = e.markPos
	same[last] = nil
	if last == 0 {
		delete(m.byMark, e.mark)
	} else {
		m.byMark[e.mark] = same[:last]
	}
}

// CallOff implements Store. It remembers the last 100,000 marks.
func (m *MemoryStore) CallOff(_ context.Context, mark string, keep time.Duration) ([]Lock, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.time()
	m.off.add(mark, now, now.Add(keep))
	var locks []Lock
	for _, e := range slices.Clone(m.byMark[mark]) {
		m.remove(e)
		locks = append(locks, e.Lock)
	}
	return locks, nil
}

// Sweep implements Store.
func (m *MemoryStore) Sweep(_ context.Context, grace time.Duration) ([]Lock, time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.time()
	m.off.forget(now)
	var swept []Lock
	for len(m.due) > 0 {
		e := m.due[0]
		if left := e.ExpiresAt.Add(grace).Sub(now); left > 0 {
			return swept, left, nil
		}
		if len(swept) == sweepBatch {
			return swept, 0, nil
		}
		m.remove(e)
		swept = append(swept, e.Lock)
	}
	return swept, Never, nil
}

// Watch implements Store: nobody else can use a MemoryStore, so there is nothing to hear.
func (m *MemoryStore) Watch(context.Context, func(Event)) error { return nil }

// Ping implements Store.
func (m *MemoryStore) Ping(context.Context) error { return nil }

// tombstones are the marks that were called off, in the order in which that happened.
type tombstones struct {
	until map[string]time.Time
	queue []tombstone
}

type tombstone struct {
	mark  string
	until time.Time
}

func (t *tombstones) has(mark string, now time.Time) bool { return now.Before(t.until[mark]) }

func (t *tombstones) add(mark string, now, until time.Time) {
	t.forget(now)
	if t.until == nil {
		t.until = make(map[string]time.Time)
	}
	t.until[mark] = until
	t.queue = append(t.queue, tombstone{mark, until})
	for len(t.queue) > maxTombstones {
		t.drop()
	}
}

// forget drops the marks in front whose time has run out.
func (t *tombstones) forget(now time.Time) {
	for len(t.queue) > 0 && !now.Before(t.queue[0].until) {
		t.drop()
	}
}

func (t *tombstones) drop() {
	first := t.queue[0]
	t.queue = t.queue[1:]
	if t.until[first.mark].Equal(first.until) { // else called off once more since
		delete(t.until, first.mark)
	}
}

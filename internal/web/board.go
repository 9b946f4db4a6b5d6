package web

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	lookEvery   = time.Second            // at the waiters, and at what changes with time alone
	listEvery   = 30 * time.Second       // at all locks, lest an event was lost
	gatherFor   = 100 * time.Millisecond // before events are looked at
	maxPending  = 10_000                 // events; with more, all locks are listed
	maxVanished = 10_000                 // names that are remembered to have no lock any more
)

// board has the rows of all locks, while any page is open. Events only add to pending, so the
// engine never waits. Page.follow keeps the rows up to date.
type board struct {
	watchers atomic.Int32
	wake     chan struct{}

	inbox   sync.Mutex
	pending []store.Event
	missed  bool // events were lost

	mu       sync.Mutex
	ready    bool
	locks    map[string]*store.Lock // by name
	waiters  map[string]int         // by name, at the last look at all
	rows     map[string]versioned   // by name
	vanished map[string]uint64      // by name: the version that has no lock of it any more
	ended    map[string]uint64      // by name: the token of the lock that was last seen to end
	oldest   uint64                 // the first version from which vanished is complete
	version  uint64
	changed  chan struct{} // closed with the next version
}

// versioned is a row and the version in which it became what it is.
type versioned struct {
	row
	version uint64
}

func (b *board) init() {
	b.wake = make(chan struct{}, 1)
	b.changed = make(chan struct{})
	b.forget()
}

// forget drops what is known. The caller holds the mutex, if there is another goroutine.
func (b *board) forget() {
	b.ready = false
	b.locks, b.rows = make(map[string]*store.Lock), make(map[string]versioned)
	b.vanished, b.ended = make(map[string]uint64), make(map[string]uint64)
	b.oldest = b.version + 1
}

// publish records an event, if any page is open.
func (b *board) publish(e store.Event) {
	if b.watchers.Load() == 0 || e.Kind == store.EventReleased {
		return
	}
	b.inbox.Lock()
	if e.Kind == store.EventMissed || len(b.pending) >= maxPending {
		b.missed, b.pending = true, nil
	} else {
		b.pending = append(b.pending, e)
	}
	b.inbox.Unlock()
	b.notify()
}

func (b *board) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// watch counts an open page, until leave. The first one waits until all locks are listed, since no
// events are recorded while there is none.
func (b *board) watch() (leave func()) {
	if b.watchers.Add(1) == 1 {
		b.inbox.Lock()
		b.missed = true
		b.inbox.Unlock()
		b.mu.Lock()
		b.ready = false
		b.mu.Unlock()
	}
	b.notify()
	return func() { b.watchers.Add(-1) }
}

// take returns the events since the last take, and whether some were lost.
func (b *board) take() (events []store.Event, missed bool) {
	b.inbox.Lock()
	defer b.inbox.Unlock()
	events, missed = b.pending, b.missed
	b.pending, b.missed = nil, false
	return events, missed
}

// pause waits until the next look is due, or for events: for more of them, unless no lock is known
// yet. It reports false when ctx ends.
func (b *board) pause(ctx context.Context, next time.Time, known bool) bool {
	var due <-chan time.Time
	if b.watchers.Load() > 0 {
		due = time.After(time.Until(next))
	} else if known { // what is known is to be forgotten
		return true
	}
	select {
	case <-b.wake:
	case <-due:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
	if !known {
		return true
	}
	select {
	case <-time.After(gatherFor):
		return true
	case <-ctx.Done():
		return false
	}
}

// apply changes the locks as the events say. Those of one lock may come in any order, and before
// the list that they are applied to: a token or a time tells which is later. What is wrong
// nevertheless is put right by the next list.
func (b *board) apply(events []store.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range events {
		lock := &events[i].Lock
		known := b.locks[lock.Name]
		switch events[i].Kind {
		case store.EventCreated, store.EventUpdated:
			older := known != nil && (lock.FencingToken < known.FencingToken ||
				lock.ID == known.ID && lock.UpdatedAt.Before(known.UpdatedAt))
			if !older && lock.FencingToken > b.ended[lock.Name] {
				b.locks[lock.Name] = lock
			}
		case store.EventDeleted:
			b.ended[lock.Name] = max(b.ended[lock.Name], lock.FencingToken)
			if known != nil && known.ID == lock.ID {
				delete(b.locks, lock.Name)
			}
		}
	}
}

func changedNames(events []store.Event) map[string]struct{} {
	names := make(map[string]struct{}, len(events))
	for i := range events {
		names[events[i].Lock.Name] = struct{}{}
	}
	return names
}

// names returns the names that have a lock or a row. The caller holds the mutex.
func (b *board) names() map[string]struct{} {
	names := make(map[string]struct{}, len(b.locks))
	for name := range b.locks {
		names[name] = struct{}{}
	}
	for name := range b.rows {
		names[name] = struct{}{}
	}
	return names
}

// changes is what has changed on a board.
type changes struct {
	rows    []row
	gone    []string
	full    bool // rows are all there are
	version uint64
	more    <-chan struct{} // closed when there is more
}

// since returns what has changed since a version: everything for 0, or for what is too long ago.
// With a name only that counts.
func (b *board) since(version uint64, name string) changes {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := changes{version: b.version, more: b.changed}
	if !b.ready {
		c.version = 0
		return c
	}
	c.full = version == 0 || version+1 < b.oldest
	add := func(r versioned) {
		if c.full || r.version > version {
			c.rows = append(c.rows, r.row)
		}
	}
	if name != "" {
		if r, ok := b.rows[name]; ok {
			add(r)
		} else if b.vanished[name] > version && !c.full {
			c.gone = []string{name}
		}
		return c
	}
	for _, r := range b.rows {
		add(r)
	}
	for vanished, at := range b.vanished {
		if at > version && !c.full {
			c.gone = append(c.gone, vanished)
		}
	}
	return c
}

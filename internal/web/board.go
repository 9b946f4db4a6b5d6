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

// board has the rows of all locks, while anybody looks at the page. Events only add to pending, so
// the engine never waits; Page.follow keeps the rows up to date.
type board struct {
	watchers atomic.Int32
	bell     chan struct{}

	inbox   sync.Mutex
	pending []store.Event
	missed  bool // events were lost

	mu       sync.Mutex
	ready    bool
	locks    map[string]*store.Lock // by name
	waiters  map[string]int         // by name, at the last look at all
	rows     map[string]versioned   // by name
	vanished map[string]uint64      // by name: the version that has no lock of it any more
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
	b.bell = make(chan struct{}, 1)
	b.changed = make(chan struct{})
	b.forget()
}

// forget drops what is known. The caller holds the mutex, if there is another goroutine.
func (b *board) forget() {
	b.ready = false
	b.locks, b.rows = make(map[string]*store.Lock), make(map[string]versioned)
	b.vanished = make(map[string]uint64)
	b.oldest = b.version + 1
}

// publish records an event, if anybody looks.
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
	b.ring()
}

func (b *board) ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

// watch counts one who looks, until leave.
func (b *board) watch() (leave func()) {
	b.watchers.Add(1)
	b.ring()
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

// follow keeps the board up to date while anybody looks, until ctx ends.
func (p *Page) follow(ctx context.Context) {
	b := &p.board
	var looked, listed time.Time // when last; zero: never
	for {
		var next <-chan time.Time
		if b.watchers.Load() > 0 {
			next = time.After(time.Until(looked.Add(lookEvery)))
		} else if !listed.IsZero() {
			b.take()
			b.mu.Lock()
			b.forget()
			b.mu.Unlock()
			looked, listed = time.Time{}, time.Time{}
		}
		select {
		case <-ctx.Done():
			return
		case <-b.bell:
			select { // so that one look is for many events
			case <-ctx.Done():
				return
			case <-time.After(gatherFor):
			}
		case <-next:
		}
		if b.watchers.Load() == 0 {
			continue
		}
		events, missed := b.take()
		now := time.Now()
		if missed || now.Sub(listed) >= listEvery {
			if !p.list(ctx) {
				looked, listed = now, time.Time{} // again in a second
				continue
			}
			listed = now
		} else {
			b.apply(events)
		}
		names := changedNames(events)
		if now.Sub(looked) >= lookEvery || listed.Equal(now) {
			looked, names = now, nil
		}
		p.look(ctx, names)
	}
}

// list reads all locks, and reports whether it could.
func (p *Page) list(ctx context.Context) bool {
	all, err := p.Engine.List(ctx)
	if err != nil {
		p.Log.Debug("page: the locks cannot be listed", "error", err)
		return false
	}
	b := &p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	b.locks = make(map[string]*store.Lock, len(all))
	for i := range all {
		b.locks[all[i].Name] = &all[i]
	}
	return true
}

// apply changes the locks as the events say. Those of one lock may come in any order: a token or a
// time tells which is later. What is wrong nevertheless is put right by the next list.
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
			if !older {
				b.locks[lock.Name] = lock
			}
		case store.EventDeleted:
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

// look makes the rows of the names, or of all for nil, and wakes those who watch if any has
// changed.
func (p *Page) look(ctx context.Context, names map[string]struct{}) {
	b, now := &p.board, time.Now()
	var waiters map[string]int
	if names == nil {
		var err error
		if waiters, err = p.Engine.Waiters(ctx); err != nil {
			p.Log.Debug("page: the waiters cannot be listed", "error", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if names == nil {
		b.waiters, names = waiters, b.names()
	}
	changed := !b.ready
	for name := range names {
		changed = p.lookAt(name, now) || changed
	}
	if len(b.vanished) > maxVanished {
		clear(b.vanished)
		b.oldest = b.version + 2
	}
	if changed {
		b.ready = true
		b.version++
		close(b.changed)
		b.changed = make(chan struct{})
	}
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

// lookAt makes the row of a name, and reports whether it has changed. The caller holds the mutex.
func (p *Page) lookAt(name string, now time.Time) bool {
	b := &p.board
	had, shown := b.rows[name]
	lock := b.locks[name]
	if lock == nil {
		delete(b.rows, name)
		if shown {
			b.vanished[name] = b.version + 1
		}
		return shown
	}
	is := newRow(lock, p.Engine.HeldElsewhere(nil, lock.ID), b.waiters[name], now)
	if shown && is == had.row {
		return false
	}
	b.rows[name] = versioned{is, b.version + 1}
	delete(b.vanished, name)
	return true
}

// changes is what has changed on a board.
type changes struct {
	rows    []row
	gone    []string
	full    bool // rows are all there are
	version uint64
	more    <-chan struct{} // closed when there is more
}

// since returns what has changed since a version; everything for 0, or what is too long ago.
func (b *board) since(version uint64) (c changes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.version, c.more = b.version, b.changed
	if !b.ready || version > 0 && version == b.version {
		c.version = version
		return c
	}
	c.full = version == 0 || version+1 < b.oldest
	for _, r := range b.rows {
		if c.full || r.version > version {
			c.rows = append(c.rows, r.row)
		}
	}
	if !c.full {
		for name, at := range b.vanished {
			if at > version {
				c.gone = append(c.gone, name)
			}
		}
	}
	return c
}

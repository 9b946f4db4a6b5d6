package web

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// follow keeps the board up to date while anybody looks, until ctx ends.
func (p *Page) follow(ctx context.Context) {
	b := &p.board
	var looked, listed time.Time // when all was last looked at, and listed; zero: never
	for b.pause(ctx, looked.Add(lookEvery), !listed.IsZero()) {
		if b.watchers.Load() == 0 {
			b.take()
			b.mu.Lock()
			b.forget()
			b.mu.Unlock()
			looked, listed = time.Time{}, time.Time{}
			continue
		}
		events, missed := b.take()
		now := time.Now()
		if missed || now.Sub(listed) >= listEvery {
			looked, listed = time.Time{}, now
			if !p.list(ctx) {
				looked, listed = now, time.Time{} // again in a second
				continue
			}
		}
		b.apply(events)
		names := changedNames(events)
		if now.Sub(looked) >= lookEvery {
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
	b.locks, b.ended = make(map[string]*store.Lock, len(all)), make(map[string]uint64)
	for i := range all {
		b.locks[all[i].Name] = &all[i]
	}
	return true
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

// rowOf returns the row of a lock, without its waiters.
func (p *Page) rowOf(lock *store.Lock) row {
	return newRow(lock, p.Engine.HeldElsewhere(nil, lock.ID), 0, time.Now())
}

package web

import (
	"context"
	"runtime/debug"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// looks is when all was last looked at, and listed; zero: never.
type looks struct{ looked, listed time.Time }

// follow keeps the board up to date while any page is open, until ctx ends.
func (p *Page) follow(ctx context.Context) {
	b := &p.board
	var last looks
	for b.pause(ctx, last.looked.Add(lookEvery), !last.listed.IsZero()) {
		if b.watchers.Load() > 0 {
			last = p.refresh(ctx, last)
			continue
		}
		b.take()
		b.mu.Lock()
		b.forget()
		b.mu.Unlock()
		last = looks{}
	}
}

// refresh brings the board up to date. If it cannot, all is listed again in a second.
func (p *Page) refresh(ctx context.Context, last looks) (next looks) {
	now := time.Now()
	defer func() {
		if r := recover(); r != nil { // of the store
			p.Log.Error("panic", "in", "the page", "panic", r, "stack", string(debug.Stack()))
			next = looks{looked: now}
		}
	}()
	events, missed := p.board.take()
	if missed || now.Sub(last.listed) >= listEvery {
		if err := p.list(ctx); err != nil {
			p.Log.Debug("page: the locks cannot be listed", "error", err)
			return looks{looked: now}
		}
		last = looks{listed: now}
	}
	p.board.apply(events)
	names := changedNames(events)
	if now.Sub(last.looked) >= lookEvery {
		last.looked, names = now, nil
	}
	p.look(ctx, names)
	return last
}

// list reads all locks.
func (p *Page) list(ctx context.Context) error {
	all, err := p.Engine.List(ctx)
	if err != nil {
		return err
	}
	b := &p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	b.locks, b.ended = make(map[string]*store.Lock, len(all)), make(map[string]uint64)
	for i := range all {
		b.locks[all[i].Name] = &all[i]
	}
	return nil
}

// look makes the rows of the names, or of all for nil, and wakes the open pages if any has changed.
func (p *Page) look(ctx context.Context, names map[string]struct{}) {
	b, now := &p.board, time.Now()
	all := names == nil
	var waiters map[string]int
	var err error
	if all {
		if waiters, err = p.Engine.Waiters(ctx); err != nil {
			p.Log.Debug("page: the waiters cannot be listed", "error", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if all {
		names = b.names()
		if err == nil {
			b.waiters = waiters
		}
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

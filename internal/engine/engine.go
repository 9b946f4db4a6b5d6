// Package engine decides who gets which lock. It queues those who wait, hands released locks on,
// sweeps expired ones, and follows what other servers do to a shared store. It knows neither HTTP
// nor JSON.
//
// All decisions are made under one mutex, which is never held during a store call. A name with a
// store call under way counts as taken.
package engine

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// New starts an engine, which runs until ctx ends.
func New(ctx context.Context, s store.Store, c Config) *Engine {
	e := &Engine{
		Config: c, store: s, stopped: ctx, started: time.Now(),
		queues: make(map[string]*queue), byHolder: make(map[string]*queue),
		marks: make(map[markKey]*Waiter), holding: make(map[string]*Conn),
		fresh: make(map[string]struct{}), openOf: make(map[string]int),
		work: make(chan call),
	}
	_, e.inPlace = s.(store.Memory)
	e.others, _ = s.(store.Announcer)
	e.dumper, _ = s.(store.Dumper)
	if c.Observer != nil {
		e.store = &observed{s, c.Observer}
	}
	s.KeepHistory(c.History)
	e.sweeper.init()
	e.background.Go(e.sweep)
	e.background.Go(e.watch)
	if b, ok := s.(store.Board); ok {
		e.board = &board{store: b}
		e.background.Go(e.followBoard)
	}
	e.do(func() { e.after(holdOff, func() { e.fresh = nil }) })
	return e
}

// Bye begins the shutdown. From now on nothing is granted on connections, and acquires over HTTP
// are refused. A name that is released goes to the first waiter all the same, which finds its lock
// on the next server. Call it before the context of New ends.
func (e *Engine) Bye() {
	e.do(func() {
		e.closing = true
		var waiters []*Waiter
		for _, q := range e.queues {
			for p := range q.all() {
				if p.w != nil && p.w.Conn == nil && p.w.idle() {
					waiters = append(waiters, p.w)
				}
			}
		}
		for _, w := range waiters {
			e.refuse(w, ErrClosing, nil)
		}
	})
}

// Wait returns once the context of New has ended and nothing of the engine runs any more, apart
// from calls of its methods.
func (e *Engine) Wait() { e.background.Wait() }

// Ping returns nil if the store can serve requests.
func (e *Engine) Ping(ctx context.Context) error {
	return e.guarded(func() error { return e.store.Ping(ctx) })
}

// Get returns the lock with that id.
func (e *Engine) Get(ctx context.Context, id string) (store.Lock, error) {
	return e.store.Get(ctx, id)
}

// Holder returns the lock that holds the name.
func (e *Engine) Holder(ctx context.Context, name string) (store.Lock, error) {
	return e.store.Holder(ctx, name)
}

// List returns all locks, the oldest first.
func (e *Engine) List(ctx context.Context) ([]store.Lock, error) { return e.store.List(ctx) }

// History returns what has ended, the newest first.
func (e *Engine) History(ctx context.Context, q store.HistoryQuery) ([]store.Ended, error) {
	return e.store.History(ctx, q)
}

// Dump is the Dump of a [store.Dumper]; ErrNoDump if the store is none.
func (e *Engine) Dump(ctx context.Context, use func(*store.Content) error) error {
	if d := e.dumper; d != nil {
		return d.Dump(ctx, use)
	}
	return ErrNoDump
}

// Update changes a lock. It is not undone when ctx ends.
func (e *Engine) Update(
	ctx context.Context, id string, change store.Change,
) (store.Lock, error) {
	lock, err := e.store.Update(context.WithoutCancel(ctx), id, change)
	if err == nil {
		e.updated(&lock)
	}
	return lock, err
}

// Announce tells the other servers that share the store of an event.
func (e *Engine) Announce(event store.Event) {
	if e.others != nil {
		e.others.Announce(event)
	}
}

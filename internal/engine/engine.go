// Package engine decides who gets which lock. It queues those who wait, hands released locks on,
// sweeps expired ones, and follows what other servers do to a shared store. It knows neither HTTP
// nor JSON.
//
// All decisions about queues are made under one mutex, which is never held during a store call. A
// name with a store call under way counts as taken.
package engine

import (
	"context"

	"gitlab.com/relukko/relukko-go/server/store"
)

// New starts an engine, which runs until ctx ends.
func New(ctx context.Context, s store.Store, c Config) *Engine {
	e := &Engine{Config: c, store: s, stopped: ctx}
	e.queues.init(c.MaxWaiters, c.NewID)
	e.sweeper.init()
	e.orphans.init()
	e.background.Go(e.sweep)
	e.background.Go(e.watch)
	return e
}

// Wait returns once the context of New has ended and nothing of the engine runs any more, apart
// from calls of its methods.
func (e *Engine) Wait() { e.background.Wait() }

// Ping returns nil if the store can serve requests.
func (e *Engine) Ping(ctx context.Context) error { return e.store.Ping(ctx) }

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

// Waiters returns how many wait here for the name.
func (e *Engine) Waiters(name string) int { return e.queues.waiters(name) }

// AllWaiters returns how many wait here for each name for which any do.
func (e *Engine) AllWaiters() map[string]int { return e.queues.allWaiters() }

// Update changes a lock. It is not undone when ctx ends.
func (e *Engine) Update(
	ctx context.Context, id string, change store.Change,
) (store.Lock, error) {
	lock, err := e.store.Update(context.WithoutCancel(ctx), id, change)
	if err == nil {
		e.sweeper.expect(&lock, e.Grace)
		e.publish(store.EventUpdated, &lock)
	}
	return lock, err
}

// CallOff undoes the creates with that mark, wherever they are: when it returns nil, no lock with
// the mark exists, and none is created in the next 10 min.
func (e *Engine) CallOff(ctx context.Context, mark string) error {
	e.queues.callOff(mark, calledOffFor)
	locks, err := e.store.CallOff(context.WithoutCancel(ctx), mark, calledOffFor)
	for i := range locks {
		e.deleted(&locks[i])
	}
	return err
}

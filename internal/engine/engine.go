// Package engine decides who gets which lock. It queues those who wait, hands released locks on,
// sweeps expired ones, and follows what other servers do to a shared store. It knows neither HTTP
// nor JSON.
//
// All decisions about queues are made under one mutex, which is never held during a store call. A
// name with a store call under way counts as taken.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// calledOffFor is how long a mark that was called off is refused.
const calledOffFor = 10 * time.Minute

// The errors of an Acquire beside those of the store.
var (
	// ErrFull: too many creates are waiting.
	ErrFull = errors.New("relukko: too many creates are waiting")
	// ErrClientGone: the context ended first. Nothing was done.
	ErrClientGone = errors.New("relukko: the client is gone")
	// ErrClosing: the engine stopped while the create was waiting. Nothing was done.
	ErrClosing = errors.New("relukko: the server is shutting down")
)

// Config sets up an Engine. All fields are required.
type Config struct {
	Grace      time.Duration // how long an expired lock holds its name until it is swept
	MaxWaiters int           // how many may wait for locks at a time, all names together
	Log        *slog.Logger
	NewID      func() string // returns a fresh random UUID in lower case

	// Publish is called for each change to a lock, and with EventMissed when changes by other
	// servers may have been lost. It must not block.
	Publish func(store.Event)
	// Flush is called when work in the background has published what it is going to publish.
	Flush func()
}

// An Engine keeps the locks of one server in a store. Make one with New.
type Engine struct {
	Config
	store   store.Store
	queues  queues
	sweeper sweeper
	orphans orphans

	stopped    context.Context
	background sync.WaitGroup
}

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

// created records a lock that this server has created.
func (e *Engine) created(lock *store.Lock) {
	e.sweeper.expect(lock, e.Grace)
	e.publish(store.EventCreated, lock)
}

// deleted records a lock that is gone, and hands its name on.
func (e *Engine) deleted(lock *store.Lock) {
	e.publish(store.EventDeleted, lock)
	e.offer(lock.Name)
}

func (e *Engine) publish(kind store.EventKind, lock *store.Lock) {
	e.Publish(store.Event{Kind: kind, Lock: *lock})
}

// remove is the store's Delete. A panic of the store becomes an error.
func (e *Engine) remove(ctx context.Context, id string) (lock store.Lock, err error) {
	err = e.guarded(func() (err error) {
		lock, err = e.store.Delete(ctx, id)
		return err
	})
	return lock, err
}

// guarded turns a panic of the store into an error where no request is to blame for it: neither
// the queue nor the process must suffer.
func (e *Engine) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.Log.Error("panic", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("relukko: panic: %v", p)
		}
	}()
	return f()
}

// unknownOutcome reports whether a call that ended with err may have had its effect, or may have
// it later.
func unknownOutcome(err error) bool {
	return errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrNotDone)
}

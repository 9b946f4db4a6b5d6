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

// Config sets up an Engine. All fields are required.
type Config struct {
	Grace      time.Duration // how long an expired lock holds its name until it is swept
	MaxWaiters int           // how many may wait for locks at a time, all names together
	Log        *slog.Logger
	NewID      func() string // returns a fresh random UUID in lower case

	// Publish is called for each change to a lock, with EventReleased of other servers, and with
	// EventMissed when changes by other servers may have been lost. It must not block.
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

// created records a lock that this server has created.
func (e *Engine) created(lock *store.Lock) {
	e.sweeper.expect(lock, e.Grace)
	e.publish(store.EventCreated, lock)
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

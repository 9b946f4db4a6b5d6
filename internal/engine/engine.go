// Package engine decides who gets which lock. It queues those who wait, hands released locks on,
// sweeps expired ones, and follows what other servers do to a shared store. It knows neither HTTP
// nor JSON.
//
// All decisions are made under one mutex, which is never held during a store call. A name with a
// store call under way counts as taken.
package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// The ends of an acquire, beside the errors of the store.
var (
	// ErrFull: too many acquires are waiting.
	ErrFull = errors.New("relukko: too many acquires are waiting")
	// ErrClosing: the engine stopped while the acquire was waiting. Nothing was done.
	ErrClosing = errors.New("relukko: the server is shutting down")
	// ErrMarkInUse: the mark is open on the same connection, for other names.
	ErrMarkInUse = errors.New("relukko: the mark is in use for other names")
	// ErrNotOffered: the engine cannot grant all of several names.
	ErrNotOffered = errors.New("relukko: acquiring all of several names is not offered")
)

// Config sets up an Engine. All fields are required.
type Config struct {
	Grace      time.Duration // how long an expired lock holds its name until it is swept
	MaxWaiters int           // how many may wait for locks at a time, all names together
	Log        *slog.Logger
	NewID      func() string // returns a fresh random UUID in lower case

	// Publish is called for each change to a lock, with EventReleased of other servers, and with
	// EventMissed when changes by other servers may have been lost. It must not block, or call the
	// engine.
	Publish func(store.Event)
	// Flush is called when work in the background has published what it is going to publish.
	Flush func()
}

// An Engine keeps the locks of one server in a store. Make one with New.
type Engine struct {
	Config
	store   store.Store
	inPlace bool // store calls never wait, and need no goroutine
	started time.Time
	sweeper sweeper

	stopped    context.Context
	background sync.WaitGroup

	mu sync.Mutex
	decided
	untidy   []*queue // that may not be needed any more
	queues   map[string]*queue
	byHolder map[string]*queue // by the id of the lock that holds the name, if known
	marks    map[markKey]*Waiter
	holding  map[string]*Conn // by id: where a lock was last acquired or renewed
	open     int              // acquires, all names together
	ranks    int              // kept for plain clients, all names together
	arrivals uint64
	fresh    map[string]struct{} // ids of locks created in the first holdOff; then nil
	closing  bool
	board    *board // nil: no other server shares the store
}

// New starts an engine, which runs until ctx ends.
func New(ctx context.Context, s store.Store, c Config) *Engine {
	e := &Engine{
		Config: c, store: s, stopped: ctx, started: time.Now(),
		queues: make(map[string]*queue), byHolder: make(map[string]*queue),
		marks: make(map[markKey]*Waiter), holding: make(map[string]*Conn),
		fresh: make(map[string]struct{}),
	}
	_, e.inPlace = s.(store.Memory)
	e.sweeper.init()
	e.background.Go(e.sweep)
	e.background.Go(e.watch)
	if b, ok := s.(store.Board); ok {
		e.board = &board{store: b}
		e.background.Go(e.followBoard)
	}
	e.after(holdOff, func() { e.fresh = nil })
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

func (e *Engine) updated(lock *store.Lock) {
	e.sweeper.expect(lock, e.Grace)
	e.publish(store.EventUpdated, lock)
}

// Announce tells the other servers that share the store of an event.
func (e *Engine) Announce(event store.Event) {
	if a, ok := e.store.(store.Announcer); ok {
		a.Announce(event)
	}
}

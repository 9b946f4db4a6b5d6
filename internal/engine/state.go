package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// The ends of an acquire, beside the errors of the store.
var (
	// ErrFull: too many acquires are waiting.
	ErrFull = errors.New("relukko: too many acquires are waiting")
	// ErrTooManyOpen: too many acquires are open with keys of the same name.
	ErrTooManyOpen = errors.New("relukko: too many acquires are open with keys of this name")
	// ErrClosing: the engine stopped while the acquire was waiting. Nothing was done.
	ErrClosing = errors.New("relukko: the server is shutting down")
	// ErrMarkInUse: the mark is open on the same connection, for other names.
	ErrMarkInUse = errors.New("relukko: the mark is in use for other names")
)

// ErrNoDump means that the store is no [store.Dumper].
var ErrNoDump = errors.New("relukko: the store cannot be copied")

// Config sets up an Engine. All fields but Observer are required.
type Config struct {
	Grace      time.Duration // how long an expired lock holds its name until it is swept
	MaxWaiters int           // how many may wait for locks at a time, all names together
	Log        *slog.Logger
	NewID      func() string // returns a fresh random UUID in lower case
	History    store.HistoryLimits
	Observer   observe.Observer // or nil

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
	inPlace bool            // store calls never wait, and need no goroutine
	others  store.Announcer // reaches the other servers on the store; nil: there are none
	dumper  store.Dumper    // the store, if it can be copied; else nil
	started time.Time
	sweeper sweeper

	work chan call    // to goroutines that wait for store calls
	idle atomic.Int32 // such goroutines

	endsMu sync.Mutex
	ends   []func() // of store calls, to be handled together

	stopped    context.Context
	background sync.WaitGroup

	mu sync.Mutex
	decided
	toOffer  []*queue // whose names may be free
	untidy   []*queue // that may not be needed any more
	queues   map[string]*queue
	byHolder map[string]*queue // by the id of the lock that holds the name, if known
	marks    map[markKey]*Waiter
	holding  map[string]*Conn // by id: where a lock was last acquired or renewed
	open     int              // acquires, all names together
	openOf   map[string]int   // acquires, by the name of the key
	ranks    int              // kept for plain clients, all names together
	arrivals uint64
	fresh    map[string]struct{} // ids of locks that are not from before; nil after holdOff
	closing  bool
	board    *board // nil: no other server shares the store
}

// decided is what is to be done once the mutex is unlocked.
type decided struct {
	sinks      []Sink   // have something to flush
	responding []Sink   // have it once then has run
	then       []func() // are run
	timers     []timer  // are started
	calls      []call   // are made
}

// call is a store call.
type call struct {
	make func()
	end  func() // handles the result, under the mutex
}

// timer runs a function under the mutex.
type timer struct {
	after time.Duration
	f     func()
}

// board is the waiters of the other servers that share the store. Who gets a lock does not depend
// on it.
type board struct {
	store     store.Board
	published time.Time                  // when the waiters here were last published
	changed   bool                       // since then
	elsewhere map[string][]time.Duration // by name: the ranks, sorted, as they were last read
}

// holdOff is for how long, from the engine's start, nobody is granted a name that was held when
// it started. Those who waited come back meanwhile. One whose turn it is by the place that it was
// told before, counting those who were granted the name since, need not wait for others.
const holdOff = 2 * time.Second

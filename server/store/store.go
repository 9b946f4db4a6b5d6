// Package store defines what a Relukko server needs from the place where it keeps its locks.
//
// Packages memstore, boltstore and pgstore are such stores. Package storetest has the tests that
// each of them passes.
package store

import (
	"context"
	"errors"
	"math"
	"time"
)

// The errors of a Store, which it may wrap. The server answers any other error with 500 and logs
// it.
var (
	// ErrGone: there is no lock with that id or name.
	ErrGone = errors.New("relukko: no such lock")
	// ErrHeld: another lock holds the name.
	ErrHeld = errors.New("relukko: the name is held")
	// ErrCalledOff: the mark of the create was called off.
	ErrCalledOff = errors.New("relukko: the create was called off")
	// ErrOutOfRange: the expiry would leave the years 1 to 9999.
	ErrOutOfRange = errors.New("relukko: expires_at would lie outside of the years 1 to 9999")
	// ErrUnavailable: the store cannot be reached now. The call may have had its effect, or may
	// have it later, unless the error is ErrNotDone too. The server answers 503 with Retry-After.
	ErrUnavailable = errors.New("relukko: the store is unavailable")
	// ErrNotDone, wrapped together with ErrUnavailable: the call has no effect, now or later.
	ErrNotDone = errors.New("relukko: nothing was done")
)

// Never is the pause that Sweep returns when nothing will come due.
const Never time.Duration = math.MaxInt64

// A Store keeps locks. Several servers may share one where its implementation allows that.
//
// Each method is atomic: it happens at one instant, whole or not at all, and all callers on all
// servers see these instants in one order. When a method returns nil, its effect is durable. One
// that returns ErrUnavailable without ErrNotDone has an unknown outcome.
//
// The clock of the store decides about all times. A method reads it once. The times of a Lock are
// in UTC and in whole microseconds, so that a lock reads the same before and after a restart.
//
// A method returns within a few seconds, with ErrUnavailable if need be; the server sets no
// deadline. The context of a call that changes something is not cancelled when the client goes
// away.
type Store interface {
	// Create makes a lock that expires in.TTL from now. Its CreatedAt and UpdatedAt are now. Its
	// FencingToken is greater than that of every earlier lock of the name.
	//
	// When the name is held, it returns ErrHeld and the holder, or the zero Lock if the holder is
	// not known. When in.Mark was called off, it returns ErrCalledOff, whether or not the name is
	// held.
	Create(ctx context.Context, in NewLock) (Lock, error)

	// Get returns the lock with that id, or ErrGone. An expired lock exists until it is swept.
	Get(ctx context.Context, id string) (Lock, error)

	// Holder returns the lock that holds the name, or ErrGone.
	Holder(ctx context.Context, name string) (Lock, error)

	// List returns all locks, the oldest first.
	List(ctx context.Context) ([]Lock, error)

	// Update changes a lock, sets its UpdatedAt to now and returns it. It returns ErrGone or
	// ErrOutOfRange if it changed nothing.
	Update(ctx context.Context, id string, change Change) (Lock, error)

	// Delete removes a lock and returns it as it was, or ErrGone.
	Delete(ctx context.Context, id string) (Lock, error)

	// HandOver is Delete(id) and Create(next) at one instant, made durable together: the name,
	// which both locks share, is never seen free in between. A shared store that gives the name
	// to a waiter of another server reports ErrHeld for the create. After an error the outcome is
	// unknown, and Watch says EventMissed if the hand-over takes effect later.
	HandOver(ctx context.Context, id string, next NewLock) (Handover, error)

	// CallOff makes Create refuse the mark for the next keep, deletes the locks created with it,
	// and returns these as they were. A store may bound the number of marks it remembers, and
	// then forgets the oldest.
	CallOff(ctx context.Context, mark string, keep time.Duration) ([]Lock, error)

	// Sweep deletes locks that expired at least grace ago, and returns them. It may leave some to
	// a later call. The server calls again after next: 0 is immediately, Never is when a lock has
	// been created or changed through this Store. Next allows for changes by other servers.
	Sweep(ctx context.Context, grace time.Duration) (swept []Lock, next time.Duration, err error)

	// Watch calls hear for what other servers did to the store, one call at a time. It leaves out
	// what was done through this Store. It says EventMissed when it begins to listen, and again
	// whenever events may have been lost. It returns when ctx ends, or with an error when it
	// cannot listen any more; the server then calls it again. A store that no other server shares
	// returns nil, or waits and says EventMissed when a call with an unknown outcome has taken
	// effect.
	Watch(ctx context.Context, hear func(Event)) error

	// Ping returns nil if the store can serve requests now.
	Ping(ctx context.Context) error
}

// An Announcer is a Store that several servers share, and that carries events between them.
type Announcer interface {
	// Announce has the others' Watch hear e soon, if they can be reached. It does not wait.
	Announce(e Event)
}

// Lock is a lock as the store has it. Its times are in UTC and in whole microseconds.
type Lock struct {
	ID           string // a UUID in lower case
	Name         string
	Creator      *string // nil: null
	IP           string  // the creator's address, without the port
	ExpiresAt    time.Time
	CreatedAt    time.Time
	UpdatedAt    time.Time
	FencingToken uint64 // greater than that of every earlier lock of the name
}

// NewLock is a lock to be created.
type NewLock struct {
	// ID is a fresh random UUID in lower case, so that a store can find out what became of a
	// create whose outcome is unknown.
	ID      string
	Name    string
	Creator *string // nil: null
	IP      string
	// TTL is how long the lock lives, by the store's clock.
	TTL time.Duration
	// Mark is what CallOff may name later. It stays with the lock when the creator changes.
	// Empty: none.
	Mark string
	// Waited is how long the create has queued on its server. A shared store can use it to
	// prefer the longest waiter, and returns ErrHeld to the others.
	Waited time.Duration
}

// Change is what Update does to a lock. At most one of ExpiresAt, Lease and Extend is set.
type Change struct {
	Creator   *string        // the new creator; nil keeps it
	ExpiresAt *time.Time     // the new expiry, in UTC and in whole microseconds; nil keeps it
	Lease     *time.Duration // the new expiry, counted from UpdatedAt; nil keeps it
	Extend    time.Duration  // is added to the expiry
}

// Handover is what a HandOver did. Its delete and its create succeed or fail independently.
type Handover struct {
	Deleted   Lock
	DeleteErr error // nil or ErrGone
	Created   Lock  // with ErrHeld: the holder, or the zero Lock if that is not known
	CreateErr error // nil, ErrHeld or ErrCalledOff
}

// Event is something that another server did to a shared store.
type Event struct {
	Kind EventKind
	// Lock is the lock as it is for EventCreated and EventUpdated, as it was for EventDeleted. For
	// EventFree it has a Name only.
	Lock Lock
	Mark string // for EventCalledOff and EventReleased
}

// EventKind is the kind of an Event.
type EventKind int

const (
	EventCreated   EventKind = iota + 1
	EventUpdated             // changed, renewed or extended
	EventDeleted             // released, called off or swept
	EventCalledOff           // a mark was called off
	EventMissed              // anything may have happened
	EventFree                // nothing happened, but the name may be free: its waiters should try
	EventReleased            // the EventDeleted beside it came from the lock's own holder
)

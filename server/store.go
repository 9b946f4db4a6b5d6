package server

import (
	"context"
	"errors"
	"math"
	"time"
)

// What a Store says when it did not do what it was asked. Stores may wrap these; everything else that
// a Store returns is answered as 500 and logged.
var (
	// ErrGone: there is no lock with that id (any more).
	ErrGone = errors.New("relukko: no such lock")
	// ErrHeld: another lock holds the name.
	ErrHeld = errors.New("relukko: the name is held")
	// ErrCalledOff: the create bears a mark that has been called off.
	ErrCalledOff = errors.New("relukko: the create was called off")
	// ErrOutOfRange: the expiry would leave the years 1 to 9999.
	ErrOutOfRange = errors.New("relukko: expires_at would lie outside of the years 1 to 9999")
	// ErrUnavailable: the store cannot be reached right now. The server answers 503 with Retry-After and goes on.
	ErrUnavailable = errors.New("relukko: the store is unavailable")
	// ErrNotDone, in the same error as ErrUnavailable: what was asked for has not happened, and will not.
	ErrNotDone = errors.New("relukko: nothing was done")
)

// Never is what Sweep answers when nothing in the store will ever be due.
const Never time.Duration = math.MaxInt64

// A Store keeps the locks. Several servers may share one store when its implementation says so.
//
// Each method is atomic: it happens at one instant, whole or not at all, and all callers, on whichever
// server, see these instants in one order. Once a method has returned nil, what it did is as durable as the store
// ever makes it. A method that answers ErrUnavailable, and not ErrNotDone, may have happened or not, or may happen yet.
// Of such creates the server deletes the locks, by their ids, when the store answers again and for 10 s from then; not those with
// a mark, by which their callers find them.
//
// The store's clock alone decides about times. It is read once per method, and every time that a
// Lock carries is in UTC with whole microseconds, so a lock reads the same now and after a restart.
//
// The methods must return within a few seconds, with ErrUnavailable if need be: the server sets no deadline. The
// ctx of a mutating call is not cancelled when the caller of the server goes away, so that nobody has to
// guess what became of it.
type Store interface {
	// Create makes a lock of that name, which expires in.TTL from now. The answer has CreatedAt == UpdatedAt == now and a
	// FencingToken greater than that of every earlier lock of the name, in the order in which the locks came to be.
	//
	// When the name is held it answers ErrHeld together with the lock that holds it (the zero Lock if that is not known).
	// When in.Mark has been called off and its time has not run out: ErrCalledOff, whether or not the name is held.
	Create(ctx context.Context, in NewLock) (Lock, error)

	// Get answers the lock with that id, or ErrGone. An expired lock is there until it is swept.
	Get(ctx context.Context, id string) (Lock, error)

	// Holder answers the lock that holds the name, or ErrGone.
	Holder(ctx context.Context, name string) (Lock, error)

	// List answers all locks, the oldest first.
	List(ctx context.Context) ([]Lock, error)

	// Update changes a lock, sets its UpdatedAt to now and answers it as it now is; or ErrGone, or ErrOutOfRange.
	Update(ctx context.Context, id string, change Change) (Lock, error)

	// Delete removes a lock and answers it as it was; or ErrGone.
	Delete(ctx context.Context, id string) (Lock, error)

	// CallOff makes Create refuse the mark for as long as keep from now, and deletes the locks that were
	// created with it. It answers these as they were. The number of marks kept may be bounded, the oldest go first.
	CallOff(ctx context.Context, mark string, keep time.Duration) ([]Lock, error)

	// Sweep deletes locks that expired at least grace ago and answers them. It need not take all at once: next is
	// how long from now the server may wait before it calls again, 0 to be called at once, Never when nothing is there.
	// What is created or changed through this same Store later, the server itself reckons in;
	// what other servers do, next has to allow for.
	Sweep(ctx context.Context, grace time.Duration) (swept []Lock, next time.Duration, err error)

	// Watch calls hear, one call at a time, for what other servers did to the same store: never for
	// what was done through this Store itself. As soon as it listens it says EventMissed, for what was before, and again
	// whenever events may have been lost. It returns when ctx ends, or with an error when it can't
	// listen any more; then the server calls it again after a while. A store that no other server can share returns nil
	// at once, or says EventMissed only when something came about that it had answered with ErrUnavailable.
	Watch(ctx context.Context, hear func(Event)) error

	// Ping answers nil when the store can serve requests right now.
	Ping(ctx context.Context) error
}

// A HandOverStore can hand a name on in one step, so that a lock that many queue for changes hands with one commit
// instead of two. It need not: where a Store is none, the server deletes first and then creates.
type HandOverStore interface {
	Store

	// HandOver is Delete(id) and then Create(next), both at one instant and made durable together: nobody sees the name
	// free in between. Id is that of a lock of next.Name; next has queued, so what leaves the name to somebody
	// on another server answers ErrHeld. As with every method, with an error anything may have happened, or nothing; a store
	// that several servers share, or whose requests may come about later, sees to it that Watch says so then.
	HandOver(ctx context.Context, id string, next NewLock) (Handover, error)
}

// Handover is what Delete and Create have answered within a HandOver: each as it would on its own, so that either may
// have done nothing while the other has.
type Handover struct {
	Deleted   Lock
	DeleteErr error // ErrGone, or nil
	Created   Lock  // with ErrHeld: the lock that holds the name, the zero Lock if that is not known
	CreateErr error // ErrHeld, ErrCalledOff, or nil
}

// NewLock is a lock to be created.
type NewLock struct {
	// ID is a fresh random UUID in lower case. The server makes it up, so that a store which does not know whether
	// its own commit went through can look.
	ID      string
	Name    string
	Creator *string // nil: null
	IP      string
	// TTL is how long the lock lives from its creation, by the store's clock.
	TTL time.Duration
	// Mark is what CallOff may name later; empty: nothing. It stays with the lock when the creator is changed.
	Mark string
	// Waited is how long this create has queued on its server, 0 when it came just now. A store that is shared by
	// several servers can use it to prefer those who wait longest; it then answers ErrHeld to the others.
	Waited time.Duration
}

// Change is what Update does. At most one of ExpiresAt, Lease and Extend is set; the zero Change sets UpdatedAt only.
type Change struct {
	Creator   *string        // the new creator; nil keeps it
	ExpiresAt *time.Time     // the new expiry, UTC with whole microseconds; nil keeps it
	Lease     *time.Duration // the new expiry, from the very now that becomes UpdatedAt; nil keeps it
	Extend    time.Duration  // what is added to the expiry
}

// Event is something that another server did to the shared store.
type Event struct {
	Kind EventKind
	Lock Lock   // EventCreated, EventUpdated: as it is now; EventDeleted: as it was
	Mark string // EventCalledOff
}

// EventKind is the kind of an Event.
type EventKind int

const (
	EventCreated   EventKind = iota + 1
	EventUpdated             // changed, renewed, extended
	EventDeleted             // by a client, called off, or swept
	EventCalledOff           // a mark was called off
	EventMissed              // anything may have happened unheard
	EventFree                // nothing happened, but the name of the lock may be free: those who queue for it should try
)

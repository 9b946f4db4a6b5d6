// Package store is the interface between a Relukko server and the storage of its locks.
//
// Packages memstore, boltstore and pgstore implement it. Package storetest has the tests that every
// implementation must pass.
package store

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"
	"time"
)

// The errors of a Store, which it may wrap. To any other error the server responds with 500, and
// logs it.
var (
	// ErrGone means that there is no lock with that id or name.
	ErrGone = errors.New("relukko: no such lock")
	// ErrHeld means that another lock holds the name.
	ErrHeld = errors.New("relukko: the name is held")
	// ErrCancelled means that the mark of the create was cancelled.
	ErrCancelled = errors.New("relukko: the acquire was cancelled")
	// ErrSuperseded means that the mark of the create was claimed since the create's claim. The
	// create has no effect.
	ErrSuperseded = errors.New("relukko: the mark was claimed by a later request")
	// ErrTooManyMarks means that the owner has cancelled MaxMarks marks that are still refused.
	ErrTooManyMarks = errors.New("relukko: too many cancelled marks")
	// ErrOutOfRange means that the new expiry is outside of the years 1 to 9999.
	ErrOutOfRange = errors.New("relukko: expires_at would lie outside of the years 1 to 9999")
	// ErrUnavailable means that the store cannot be reached now. Unless the error is also
	// ErrNotDone, the outcome is unknown: the call may have taken effect, or may do so later. The
	// server responds with 503 and Retry-After.
	ErrUnavailable = errors.New("relukko: the store is unavailable")
	// ErrNotDone, wrapped together with ErrUnavailable, means that the call has no effect, now or
	// later.
	ErrNotDone = errors.New("relukko: nothing was done")
)

// Never is the Next of a Sweep if no lock will become due.
const Never time.Duration = math.MaxInt64

// Store keeps locks. Several servers may share one if the implementation allows it. All methods are
// safe for concurrent use.
//
// Each method is atomic: it takes effect at one instant, completely or not at all, and all callers
// on all servers see these instants in the same order. When a method returns nil, its effect is
// durable. The outcome of a method that returns ErrUnavailable without ErrNotDone is unknown.
//
// Only the store's clock counts; a method reads it once. The times of a Lock are in UTC and in
// whole microseconds, so that a lock reads the same before and after a restart.
//
// A method returns within a few seconds, with ErrUnavailable if necessary: the server sets no
// deadline. The server does not cancel the context of a call that changes something when its client
// goes away.
type Store interface {
	// Create makes a lock that expires in.TTL from now. Its CreatedAt and UpdatedAt are now. Its
	// FencingToken is greater than that of every earlier lock of the name.
	//
	// When the name is held, it returns ErrHeld and the holder, or the zero Lock if the holder is
	// not known. When in.Mark was cancelled, it returns ErrCancelled, and when it was claimed with
	// a claim greater than in.Claim, ErrSuperseded; both whether or not the name is held. A mark
	// belongs to its owner: the same mark of another owner is another mark.
	Create(ctx context.Context, in NewLock) (Lock, error)

	// CreateAll is Create for several names: it makes all of the locks at one instant, or none.
	// The names differ, and the owner, the mark and the claim are the same. If names are held it
	// returns ErrHeld and, for each of in, the lock that holds its name: one with a Name only where
	// that is not known, as the name is left to a waiter of another server, and the zero Lock where
	// it is free. At least one has a Name.
	CreateAll(ctx context.Context, in []NewLock) ([]Lock, error)

	// Get returns the lock with that id, or ErrGone. An expired lock exists until it is swept.
	Get(ctx context.Context, id string) (Lock, error)

	// Holder returns the lock that holds the name, or ErrGone.
	Holder(ctx context.Context, name string) (Lock, error)

	// List returns all locks, the oldest first.
	List(ctx context.Context) ([]Lock, error)

	// Update changes a lock, sets its UpdatedAt to now and returns the changed lock. It changes
	// nothing if it returns ErrGone or ErrOutOfRange.
	Update(ctx context.Context, id string, change Change) (Lock, error)

	// Delete removes a lock and returns it as it was, or ErrGone. The history has how it ended, as
	// it has for each lock that a method removes.
	Delete(ctx context.Context, id string, end Ending) (Lock, error)

	// HandOver is Delete(id, end) and Create(next), made durable together at one instant. Both
	// locks have the same name, which is never seen free in between. A shared store that prefers
	// the waiter of another server reports ErrHeld for the create. After an error the outcome is
	// unknown; if the hand-over takes effect later, Watch then reports EventMissed.
	HandOver(ctx context.Context, id string, end Ending, next NewLock) (Handover, error)

	// Claim returns a claim that is greater than all earlier ones of the mark, and the locks that
	// were created with it. From then on Create refuses the mark with an older claim, also if that
	// call has begun already. It returns ErrCancelled if the mark was cancelled. A store may forget
	// a claim after ClaimTime.
	Claim(ctx context.Context, owner, mark string) (claim uint64, locks []Lock, err error)

	// Cancel makes Create and Claim refuse the mark for the next ClaimTime, deletes the locks that
	// were created with it, and returns them as they were. It returns ErrTooManyMarks if the owner
	// has MaxMarks marks that are refused.
	Cancel(ctx context.Context, owner, mark string) ([]Lock, error)

	// Sweep deletes locks that have expired and whose grace is over. It may leave some to a later
	// call. Limits say what the grace is, and which leased locks stay for now.
	Sweep(ctx context.Context, limits Limits) (Swept, error)

	// KeepHistory sets what the store keeps of the locks that end from now on, and deletes older
	// entries in small steps, with later calls. Before the first call it keeps nothing. An entry
	// is written together with the end of its lock: there is one if, and only if, the lock ended.
	// Of servers that share a store, the one that keeps least decides.
	KeepHistory(limits HistoryLimits)

	// History returns what has ended, the newest first.
	History(ctx context.Context, q HistoryQuery) ([]Ended, error)

	// Watch calls hear, one call at a time, for each change that another server makes to the store,
	// and for none that is made through this Store. It reports EventMissed when it begins to
	// listen, and whenever events may have been lost. It returns when ctx ends, or with an error
	// when it cannot listen any more; the server then calls it again. If no other server can share
	// the store, Watch returns nil, or it waits, and reports EventMissed when a call whose outcome
	// was unknown has taken effect.
	Watch(ctx context.Context, hear func(Event)) error

	// Ping returns nil if the store can serve requests now.
	Ping(ctx context.Context) error
}

const (
	// ClaimTime is for how long claims and cancelled marks are kept.
	ClaimTime = 10 * time.Minute
	// MaxMarks is the number of cancelled marks that one owner can have.
	MaxMarks = 100_000
)

// Memory is implemented by a Store whose calls never wait for a disk or another machine. The server
// makes them where it is, without a goroutine for each.
type Memory interface {
	InMemory()
}

// Board is implemented by a Store that several servers share and that shows the waiters of each to
// the others. Nothing about who gets a lock depends on it.
type Board interface {
	// Publish replaces the waiters that this server has published. They are shown for 10 s.
	Publish(ctx context.Context, waiters []Waiter) error
	// Published returns the waiters of the other servers that run.
	Published(ctx context.Context) ([]Waiter, error)
}

// Waiter is a request that waits on a server for any of the names.
type Waiter struct {
	Names    []string
	Creator  *string // without a mark
	IP       string
	Owner    string
	Priority int
	Since    time.Time // when the request arrived, by the store's clock where that is known
	Rank     time.Time // the place in the order of all waiters: least first
}

// Announcer is implemented by a Store that several servers share and that carries events between
// them.
type Announcer interface {
	// Announce sends e to the Watch of the other servers, as far as they can be reached. It does
	// not wait for that.
	Announce(e Event)
}

// Dumper is implemented by a Store whose content can be copied into a backup or another store.
type Dumper interface {
	// Dump calls use with what the store has at one instant, and returns an error of its own or
	// that of use. Other calls go on meanwhile. The content is valid until use returns.
	Dump(ctx context.Context, use func(*Content) error) error
}

// Content is what a store has at one instant. Claims are not part of it: they are only about
// creates that are under way.
type Content struct {
	At    time.Time // by the store's clock
	Token uint64    // the last fencing token that was given out
	Locks []Record  // in the order of their fencing tokens
	Marks []Mark    // in the order in which they were cancelled; some may be over
	// History yields what has ended, the oldest first; once only. An error is the last that it
	// yields. Entries that are too old or too many for HistoryLimits may be missing.
	History iter.Seq2[Ended, error]
}

// Record is a lock with what a store keeps of it besides.
type Record struct {
	Lock
	Mark   string // "": none
	Leased bool
	Lease  time.Duration // the one that was set last, where Leased
	Waited time.Duration // Queued of the create
}

// Mark is a cancelled mark.
type Mark struct {
	Owner, Mark string
	Until       time.Time // it is refused
}

// Lock is a lock in a store. Its times are in UTC and in whole microseconds.
type Lock struct {
	ID           string // a UUID in lower case
	Name         string
	Creator      *string // nil: null
	IP           string  // the creator's address, without the port
	ExpiresAt    time.Time
	CreatedAt    time.Time
	UpdatedAt    time.Time
	FencingToken uint64 // greater than that of every earlier lock of the name
	Owner        string // the name of the key that created it
}

// Limits say which locks a Sweep deletes. The grace of a leased lock is [LeaseGrace] of the lease
// that was set last, by its creation or by an Update: what was left of it then. With the zero
// Limits other locks have no grace, and no leased lock with a lease is deleted.
type Limits struct {
	Grace time.Duration // of locks that are not leased

	// Latest is the latest that the store's clock can show now, unless it was set or the server
	// slept. Steady is for how long the clock has kept to that; it counts as 0 where the clock
	// shows more than Latest. Leased locks whose lease is longer than Steady stay, so that after a
	// step of the clock their renewals come first; from MaxSteady on none does.
	Latest time.Time
	Steady time.Duration
}

// MaxSteady is the longest that leased locks stay after a step of the store's clock.
const MaxSteady = time.Minute

// LeaseGrace returns how long a leased lock is kept after its expiry.
func LeaseGrace(lease time.Duration) time.Duration {
	return min(max(lease/10, time.Second), 10*time.Second)
}

// Swept is what a Sweep did.
type Swept struct {
	Locks []Lock    // as they were
	Now   time.Time // what the store's clock showed
	// Next is the pause before the next Sweep: 0 is none, Never is until a lock has been created or
	// changed through this Store. It allows for changes by other servers.
	Next time.Duration
}

// NewLock describes a lock to be created.
type NewLock struct {
	// ID is a fresh random UUID in lower case, so that a store can find out what became of a
	// create whose outcome is unknown.
	ID      string
	Name    string
	Creator *string // nil: null
	IP      string
	// TTL is the time from now to the expiry, by the store's clock.
	TTL time.Duration
	// Leased makes it a leased lock, for as long as it exists: see Limits.
	Leased bool
	// Owner is the name of the key that creates it.
	Owner string
	// Mark, together with the owner, identifies the request for Claim and Cancel; "" means none. It
	// stays with the lock when the creator changes.
	Mark string
	// Claim is the latest claim of the mark; 0 if it was never claimed.
	Claim uint64
	// Waited is how long the create has queued on its server, and what its priority adds to that
	// or takes off, so it may be negative. 0: it does not wait. A shared store can use it to prefer
	// the longest waiter, and returns ErrHeld to the others.
	Waited time.Duration
	// Queued is how long the request has waited for the name, for the history.
	Queued time.Duration
}

// Ending says how a lock ends.
type Ending struct {
	How    How
	By     string // the name of the key; "" for Expired
	Reason string // of the request that broke the lock
}

// Of returns the ending of a lock of the owner: what another key releases is broken.
func (e Ending) Of(owner string) Ending {
	if e.How == Released && e.By != owner {
		e.How = Broken
	}
	return e
}

// How is a manner in which locks end.
type How uint8

const (
	Released  How = iota // with a key of its owner
	Broken               // on purpose: with a reason, or with a key of another name
	Expired              // swept
	Cancelled            // with its acquire, whose client did not come to use it
)

var hows = [...]string{"released", "broken", "expired", "cancelled"}

// String returns h as the history has it: released, broken, expired or cancelled.
func (h How) String() string {
	if int(h) < len(hows) {
		return hows[h]
	}
	return "unknown"
}

// ParseHow returns the How whose String is s.
func ParseHow(s string) (How, bool) {
	i := slices.Index(hows[:], s)
	return How(max(i, 0)), i >= 0
}

// Ended is an entry of the history: a lock as it was, and its end.
type Ended struct {
	Lock
	Ending
	At     time.Time     // in UTC and in whole microseconds
	Waited time.Duration // Queued of the create
}

// HistoryLimits say what a store keeps of what has ended: for how long, and about how many entries
// at most. If one of them is 0 it keeps nothing.
type HistoryLimits struct {
	Age time.Duration
	Max int
}

// None reports whether nothing is kept.
func (l HistoryLimits) None() bool { return l.Age <= 0 || l.Max <= 0 }

// HistoryQuery selects entries of the history.
type HistoryQuery struct {
	Name         string    // of the locks; "": any
	Since, Until time.Time // when they ended, both included; zero: no limit
	Limit        int       // so many entries at most: the newest
}

// Change is a change of a lock, for Update. At most one of ExpiresAt, Lease and Extend is set. The
// zero Change changes UpdatedAt only.
type Change struct {
	Creator   *string        // the new creator; nil keeps it
	ExpiresAt *time.Time     // the new expiry, in UTC and in whole microseconds; nil keeps it
	Lease     *time.Duration // the new expiry, counted from UpdatedAt; nil keeps it
	Extend    time.Duration  // is added to the expiry
	MaxHold   time.Duration  // a new expiry is at most CreatedAt plus this; 0: no bound
}

// Handover is the result of HandOver. Its delete and its create succeed or fail independently.
type Handover struct {
	Deleted   Lock
	DeleteErr error // nil or ErrGone
	Created   Lock  // with ErrHeld: the holder, or the zero Lock if that is not known
	CreateErr error // nil, ErrHeld, ErrCancelled or ErrSuperseded
}

// Event is a change of a shared store by another server.
type Event struct {
	Kind EventKind
	// Lock is the lock as it is for EventCreated and EventUpdated, as it was for EventDeleted. For
	// EventFree it has a Name only.
	Lock Lock
	Mark string // for EventCancelled, whose Lock has an Owner only, and for EventReleased
}

// EventKind says what an Event reports.
type EventKind int

const (
	EventCreated   EventKind = iota + 1
	EventUpdated             // changed, renewed or extended
	EventDeleted             // released, cancelled or swept
	EventCancelled           // a mark was cancelled
	EventMissed              // anything may have happened
	EventFree                // nothing changed, but the name may be free: its waiters should try
	EventReleased            // in addition to EventDeleted: the lock's own holder released it
)

package engine

import (
	"container/list"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Sink receives what concerns one connection, or one acquire over HTTP. All methods but Flush are
// called under the engine's mutex, in the order in which things happened: they must only record
// what they are told. Flush is called after them, without the mutex.
type Sink interface {
	// Granted ends an acquire with one lock, or with all in the order of the names. Seen is the
	// largest number that was read from the connection before the store call that created them, or
	// 0 where that is not known.
	Granted(w *Waiter, locks []store.Lock, seen uint64)
	// Refused ends an acquire. Holder is the lock that holds the name; nil if that is not known.
	Refused(w *Waiter, err error, holder *store.Lock)
	// Waiting says how many are served before an acquire. Holder may be nil.
	Waiting(w *Waiter, ahead int, holder *store.Lock)
	// Deleted says that a lock of the connection was deleted with a key of that name; "": it
	// expired, or another server deleted it.
	Deleted(lock *store.Lock, by string)
	// Wanted says how many wait for a lock of the connection when that becomes 0 or was 0.
	Wanted(id string, waiters int)
	Flush()
}

// Conn is a client's connection: it has places in queues, and locks.
type Conn struct {
	sink    Sink
	seen    atomic.Uint64
	heard   atomic.Int64 // when something was last read, since the engine's start
	passed  atomic.Bool  // a place was passed over because the connection was silent
	closed  bool
	leaving bool // it was closed after Bye: its client goes to the next server
	waiters map[*Waiter]struct{}
	locks   map[string]heldLock // in Engine.holding, by id
	granted map[markKey]string  // ids of locks that can be cancelled without memory of the mark
}

// heldLock is a lock of a connection.
type heldLock struct {
	name      string
	mark      markKey // of its acquire; zero: it is not known, or of no use
	elsewhere bool    // the connection was told that somebody waits on another server
}

// perPriority is what each priority is worth in the queue.
const perPriority = 10 * time.Minute

const (
	minSilence = time.Second // at least, and
	maxSilence = time.Minute // at most, until a silent connection is passed over
)

// silent reports whether the connection has been silent for half of the lease.
func (c *Conn) silent(now, lease time.Duration) bool {
	return now-time.Duration(c.heard.Load()) > min(max(lease/2, minSilence), maxSilence)
}

// Waiter is one acquire. The fields that are exported are set by the caller of [Engine.Acquire].
type Waiter struct {
	Conn     *Conn  // nil for HTTP
	Sink     Sink   // for HTTP; else that of the connection
	N        uint64 // the number of the request, for the Sink
	Names    []string
	All      bool          // all of the names, not any one
	New      store.NewLock // without ID, Name, Claim and Waited. A mark is needed on connections
	Wait     bool          // while no name is free
	Progress bool          // calls of the Sink's Waiting
	Again    bool          // the mark may have been used before
	Priority int           // each is worth 10 min in the queue
	Waited   time.Duration // by the client's account, before this request
	MaxHold  time.Duration // bounds the TTL of what is created; 0: no bound
	MaxOpen  int           // refuses it if the owner has so many open; 0: no bound

	// Rank is the place in the order of all waiters, least first. Acquire sets it. Before, it is
	// what it was on an earlier connection, or zero.
	Rank time.Time

	// Place is that on an earlier connection, as last told: 1 is next; 0: unknown.
	Place int

	key     markKey
	made    bool // the mark was made by the engine
	arrived time.Time
	rank    time.Duration // in the queues, since the engine's start: least first
	arrival uint64        // among equal ranks
	places  []*place      // one for each name, in their order
	plain   plainKey      // zero: not a plain client
	excess  bool          // it may not wait: there are too many

	calling *queue      // a create for it is under way, of this name
	asking  bool        // another store call for it is under way
	tried   bool        // a create was tried
	queued  bool        // it was not served at once
	placing bool        // not all of its names were offered yet: it may not have to wait
	unready bool        // its mark must be claimed before the next create
	pure    bool        // its mark was never used elsewhere, and no outcome was ever unknown
	ended   bool        // nothing more is told to the sink
	undo    bool        // a lock that is created for it must be deleted
	lock    *store.Lock // what it was granted, or what was created and must be deleted
	done    func()      // called once when no store call is under way
}

// markKey identifies an acquire.
type markKey struct{ owner, mark string }

// plainKey identifies a plain client, which tries again and again over HTTP.
type plainKey struct{ owner, ip, creator string }

// patient reports whether the waiter stays while no name is free.
func (w *Waiter) patient() bool { return w.Wait && !w.excess }

// idle reports whether no store call for the waiter is under way.
func (w *Waiter) idle() bool { return w.calling == nil && !w.asking }

// mayHave reports whether the waiter asks for that name.
func (w *Waiter) mayHave(name string) bool { return slices.Contains(w.Names, name) }

// placeIn returns the waiter's place in a queue of one of its names.
func (w *Waiter) placeIn(q *queue) *place {
	return w.places[slices.IndexFunc(w.places, func(p *place) bool { return p.queue == q })]
}

// creator returns the creator, which is not nil, without the mark at its end.
func (w *Waiter) creator() string { return strings.TrimSuffix(*w.New.Creator, " #"+w.New.Mark) }

// queue has the places of those who want one name, in their order. It exists while it has any, or
// while something is known of its name.
type queue struct {
	name    string
	places  list.List            // of *place
	index   []*place             // some of the places, to find where an insert belongs
	waiting int                  // waiters that wait
	asking  int                  // waiters that want progress
	nowait  map[*Waiter]struct{} // the others

	busy  bool // a store call for the name is under way
	again bool // the name may have come free since that call began
	tried time.Time

	holder  *store.Lock // the lock that was last seen to hold the name; nil: unknown, or none
	last    *store.Lock // the youngest lock of the name that was deleted, if known
	wanted  bool        // the holder's connection was told that somebody waits
	holdOff time.Time   // until then the name is granted only to those who have come back
	grants  int         // of the name, since the start

	ranks    map[plainKey]*place // the ranks that are kept for plain clients
	reserved *place              // of whom the name is reserved for; see reserve and reserveFor
	round    int                 // ends when all who want several names have had a reservation
	turn     bool                // one has lapsed: the others have the name once
	lapsed   bool                // the last reservation has lapsed, and nobody was served since
	refused  bool                // a plain client was refused although no lock held the name

	retrying bool          // the name is offered again soon, as the store was unavailable
	told     time.Duration // when progress was last told to all, since the engine's start
	telling  bool          // it will be told to all soon
}

// place is a waiter's place in one queue, or the rank that a plain client keeps between two tries.
type place struct {
	rank    time.Duration // since the engine's start: least first
	arrival uint64        // among equal ranks
	at      *list.Element // nil: it is in no queue
	indexed bool          // it is in the index of the queue

	queue *queue
	w     *Waiter  // nil for a plain client that is not here
	plain plainKey // of such a one

	until  time.Duration // the end of the reservation for a waiter for all of several names
	lapses int           // of such reservations
	passed int           // the round of the queue in which the last one has lapsed

	told     time.Duration // when its progress was last told
	ahead    int           // as last told; -1: never
	holderID string        // as last told
}

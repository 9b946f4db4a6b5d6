// Package observe is what a server reports about its work, for metrics. Package metrics turns it
// into metrics for Prometheus.
package observe

import (
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Observer hears what a server does. Its methods are called often, by many goroutines at a time,
// and some of them while other requests wait for the caller: they must return quickly, and must not
// call the server.
type Observer interface {
	// AcquireEnded reports that an acquire, over HTTP or a stream, has ended after so long in the
	// queue. One for several names counts once.
	AcquireEnded(result Result, waited time.Duration)
	// LockEnded reports that this server has ended a lock, so long after its creation.
	LockEnded(how store.How, held time.Duration)
	// RenewalEnded reports that a lock was to be renewed, and the error of the store.
	RenewalEnded(err error)
	// StoreCalled reports a call to the store, its error, and how long it took.
	StoreCalled(operation Operation, err error, took time.Duration)
	// Responded reports a response over HTTP. The route is the pattern of the path, or "other". A
	// WebSocket counts when it opens.
	Responded(method, route string, status int, took time.Duration)
	// WatcherDropped reports that a client of /ws/broadcast was disconnected, as it was too slow.
	WatcherDropped()
	// AccessRefused reports that a request was refused because of its key.
	AccessRefused(reason Reason)
}

// Result is how an acquire ended.
type Result int

const (
	Cancelled   Result = iota // by its client, or its connection broke, and it did not come again
	Granted                   // with a lock
	Held                      // the name was held, and the acquire did not wait, or not any longer
	Continued                 // by a request with the same mark, on another connection or server
	Full                      // too many acquires were open
	Unavailable               // the store was unavailable
	Closing                   // the server was shut down
	Failed                    // for any other reason
)

// Results has the name of each Result.
var Results = [...]string{"cancelled", "granted", "held", "continued", "full", "unavailable",
	"closing", "error"}

func (r Result) String() string { return Results[r] }

// Operation is a method of a store.
type Operation int

const (
	Create Operation = iota
	CreateAll
	Get
	Holder
	List
	Update
	Delete
	HandOver
	Claim
	Cancel
	Sweep
	History
	Ping
)

// Operations has the name of each Operation.
var Operations = [...]string{"create", "create_all", "get", "holder", "list", "update", "delete",
	"hand_over", "claim", "cancel", "sweep", "history", "ping"}

func (o Operation) String() string { return Operations[o] }

// Reason is why a request was refused because of its key.
type Reason int

const (
	WrongKey   Reason = iota // or none
	TooMany                  // wrong keys from one address
	KeyGone                  // it was removed while its client was connected
	NotAllowed               // its role or its patterns do not allow that
)

// Reasons has the name of each Reason.
var Reasons = [...]string{"wrong_key", "too_many", "key_gone", "not_allowed"}

func (r Reason) String() string { return Reasons[r] }

// Stats are what a server has at an instant.
type Stats struct {
	Locks    []store.Lock   // of the store, those of other servers too
	Waiters  int            // acquires that wait on this server
	Waiting  map[string]int // the same by name; one for several names counts for each of them
	Oldest   time.Duration  // for which the first of them has waited; 0: none waits
	Watchers int            // clients of /ws/broadcast
	Streams  int
}

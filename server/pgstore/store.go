package pgstore

import (
	"sync"
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Store is a [store.Store] in PostgreSQL. Make one with Open. Each server needs one of its own: a
// Store does not report what was done through itself.
type Store struct {
	database
	changes    changes
	notifier   notifier
	tracker    tracker
	background sync.WaitGroup
	published  atomic.Bool // something, which is to be removed at the end
	keep       atomic.Pointer[store.HistoryLimits]
}

// String returns the kind of the store.
func (*Store) String() string { return "postgres" }

var (
	_ store.Store     = (*Store)(nil)
	_ store.Announcer = (*Store)(nil)
	_ store.Board     = (*Store)(nil)
)

// tell makes sure that the other servers hear of a change.
func (s *Store) tell(kind store.EventKind, lock store.Lock) {
	s.notifier.add(store.Event{Kind: kind, Lock: lock})
}

// Announce implements [store.Announcer].
func (s *Store) Announce(e store.Event) { s.notifier.add(e) }

// gone records that locks were deleted through this store.
func (s *Store) gone(locks ...store.Lock) {
	events := make([]store.Event, len(locks))
	for i, lock := range locks {
		events[i] = store.Event{Kind: store.EventDeleted, Lock: lock}
		s.tracker.free(lock)
	}
	s.notifier.add(events...)
}

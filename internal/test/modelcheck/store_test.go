package modelcheck_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Causes of a removal.
const (
	released  = "released"          // by a client's DELETE
	cancelled = "cancelled"         // by a client
	undone    = "taken back"        // by the backend, whose caller had left
	swept     = "swept"             // by the backend, after the grace
	forced    = "deleted by others" // by the plan
	forgotten = "lost in a restart"
)

// lockRecord is the life of one lock on the backend.
type lockRecord struct {
	id, name, creator, mark string
	unmarked                bool // the backend takes no notice of marks, or did not then
	leased                  bool // it is swept soon after its lease
	unknown                 bool // to its client, which got another one
	token                   uint64
	created                 moment
	length                  time.Duration
	leases                  []leaseRecord // in order; the first is the creation's
	removed                 *removal      // nil while it lives
}

// leaseRecord is an expiry that a lock was given.
type leaseRecord struct {
	moment
	expires time.Duration // by the test's clock, since the run began
	by      int           // the client; -1: the plan
	length  time.Duration
}

type removal struct {
	moment
	cause string
	by    int
}

// takenAway reports whether the lock was removed, or made to expire, from outside.
func (l *lockRecord) takenAway() bool {
	switch {
	case l.removed == nil:
		return false
	case l.removed.cause == swept:
		return l.leases[len(l.leases)-1].by < 0
	}
	return l.removed.cause == forced || l.removed.cause == forgotten
}

type cancellation struct {
	moment
	mark string
}

// store is a memory store that records all changes in the order in which they take
// effect.
type recorded struct {
	store.Store
	world *world

	events []store.Event // by the other server; world.mu guards them
	bell   chan struct{}
}

// share tells the other server of a change. The caller holds the record's mutex.
func (s *recorded) share(e store.Event) {
	for _, other := range s.world.stores {
		if other == s {
			continue
		}
		other.events = append(other.events, e)
		select {
		case other.bell <- struct{}{}:
		default:
		}
	}
}

func (s *recorded) begin() (done func()) {
	s.world.mu.Lock()
	return s.world.mu.Unlock
}

// by returns the client whose request this is; -1 where it is none's.
func (s *recorded) by(ctx context.Context) int {
	addr, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return -1
	}
	return s.world.links[addr.String()]
}

func (s *recorded) local(l *store.Lock) time.Duration {
	return l.ExpiresAt.Add(-s.world.plan.offset).Sub(s.world.start)
}

func creatorOf(l *store.Lock) string {
	if l.Creator == nil {
		return ""
	}
	return *l.Creator
}

// markOf returns the mark at the end of a creator.
func markOf(creator string) string {
	_, mark, _ := strings.Cut(creator, " #")
	return mark
}

func (s *recorded) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	defer s.begin()()
	l, err := s.Store.Create(ctx, in)
	if err == nil {
		s.created(&l, in)
	}
	return l, err
}

// created records a creation. The caller holds the record's mutex.
func (s *recorded) created(l *store.Lock, in store.NewLock) {
	r := s.world.record
	m := r.noteLocked("backend", "lock %s of %s by %q, for %v, token %d", brief(l.ID), l.Name,
		creatorOf(l), in.TTL, l.FencingToken)
	rec := &lockRecord{
		id: l.ID, name: l.Name, creator: creatorOf(l), mark: markOf(
			creatorOf(l)), token: l.FencingToken,
		created: m, length: in.TTL, unmarked: in.Mark == "",
		leased: in.Leased,
		leases: []leaseRecord{{m, s.local(l), 0, in.TTL}},
	}
	s.share(store.Event{Kind: store.EventCreated, Lock: *l})
	r.locks[l.ID] = rec
	r.order = append(r.order, rec)
}

func (s *recorded) Update(ctx context.Context, id string, change store.Change) (store.Lock, error) {
	defer s.begin()()
	l, err := s.Store.Update(ctx, id, change)
	if err != nil {
		return l, err
	}
	r, by := s.world.record, s.by(ctx)
	if _, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); !ok && r.forcing != l.Name {
		by = s.renewer(id)
	}
	lease := leaseRecord{r.noteLocked("backend", "lock %s of %s expires at %v (%s)", brief(id),
		l.Name, s.local(&l), whom(by)), s.local(&l), by, 0}
	if change.Lease != nil {
		lease.length = *change.Lease
	}
	s.share(store.Event{Kind: store.EventUpdated, Lock: l})
	r.locks[id].leases = append(r.locks[id].leases, lease)
	return l, nil
}

// renewer returns the client that renews a lock over the stream; -1: none does. The caller holds
// the record's mutex.
func (s *recorded) renewer(id string) int {
	for _, x := range slices.Backward(s.world.exchange) {
		if x.what == ofRenew && x.id == id && x.method == "stream" && !x.understood() {
			return x.client
		}
	}
	return -1
}

func whom(by int) string {
	if by < 0 {
		return "others"
	}
	return "c" + string(rune('0'+by))
}

func (s *recorded) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	defer s.begin()()
	l, err := s.Store.Delete(ctx, id, end)
	if err == nil {
		s.deleted(&l)
	}
	return l, err
}

// deleted records a deletion. The caller holds the record's mutex.
func (s *recorded) deleted(l *store.Lock) {
	if s.world.forcing == l.Name && s.world.forced == "?" {
		s.world.forced = l.ID
		s.removed(l, forced, -1)
		return
	}
	for _, x := range s.world.exchange {
		if x.what == ofRelease && x.id == l.ID && !x.understood() {
			s.removed(l, released, x.client)
			return
		}
	}
	s.removed(l, undone, -1)
}

func (s *recorded) HandOver(ctx context.Context, id string, end store.Ending, next store.NewLock) (
	store.Handover, error) {
	defer s.begin()()
	both, err := s.Store.HandOver(ctx, id, end, next)
	if err != nil {
		return both, err
	}
	if both.DeleteErr == nil {
		s.deleted(&both.Deleted)
	}
	if both.CreateErr == nil {
		s.created(&both.Created, next)
	}
	return both, nil
}

// CreateAll implements [store.Store].
func (s *recorded) CreateAll(ctx context.Context, in []store.NewLock) ([]store.Lock, error) {
	defer s.begin()()
	locks, err := s.Store.CreateAll(ctx, in)
	if err == nil {
		for i := range locks {
			s.created(&locks[i], in[i])
		}
	}
	return locks, err
}

// removed records a removal. The caller holds the record's mutex.
func (s *recorded) removed(l *store.Lock, cause string, by int) {
	r := s.world.record
	m := r.noteLocked("backend", "lock %s of %s %s (%s)", brief(l.ID), l.Name, cause, whom(by))
	s.share(store.Event{Kind: store.EventDeleted, Lock: *l})
	r.locks[l.ID].removed = &removal{m, cause, by}
}

func (s *recorded) Cancel(ctx context.Context, owner, mark string) ([]store.Lock, error) {
	defer s.begin()()
	locks, err := s.Store.Cancel(ctx, owner, mark)
	m := s.world.record.noteLocked("backend", "mark %s cancelled (%s)", mark, whom(s.by(ctx)))
	s.world.record.cancelled = append(s.world.record.cancelled, cancellation{m, mark})
	if err == nil {
		s.share(store.Event{Kind: store.EventCancelled, Lock: store.Lock{Owner: owner}, Mark: mark})
	}
	for i := range locks {
		s.removed(&locks[i], cancelled, s.by(ctx))
	}
	return locks, err
}

func (s *recorded) Sweep(ctx context.Context, limits store.Limits) (store.Swept, error) {
	defer s.begin()()
	result, err := s.Store.Sweep(ctx, limits)
	for i := range result.Locks {
		s.removed(&result.Locks[i], swept, -1)
	}
	return result, err
}

// forget records that the store has lost its locks.
func (s *recorded) forget() {
	defer s.begin()()
	r := s.world.record
	r.losses = append(r.losses, r.noteLocked("backend", "all locks are lost"))
	for _, rec := range r.order {
		if rec.removed == nil {
			rec.removed = &removal{r.now(), forgotten, -1}
		}
	}
}

// brief returns enough of an id to distinguish it.
func brief(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// Package memstore keeps the locks of one Relukko server in memory: for tests, and where losing
// them with the process does no harm.
package memstore

import (
	"context"
	"math"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Store is a [store.Store] in memory. One server only can use it. Make one with New.
type Store struct {
	now func() time.Time

	mu      sync.Mutex
	state   *lockset.State
	history lockset.History
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Memory = (*Store)(nil)
	_ store.Dumper = (*Store)(nil)
)

// An Option sets up a Store.
type Option func(*Store)

// WithClockOffset makes the store's clock differ from the machine's by d.
func WithClockOffset(d time.Duration) Option {
	return func(s *Store) { s.now = func() time.Time { return time.Now().Add(d) } }
}

// String returns the kind of the store.
func (*Store) String() string { return "memory" }

// New returns an empty store.
func New(opts ...Option) *Store {
	s := &Store{now: time.Now}
	s.state = lockset.NewState(&s.history)
	for _, o := range opts {
		o(s)
	}
	return s
}

func (s *Store) lock() (state *lockset.State, now time.Time, unlock func()) {
	s.mu.Lock()
	return s.state, lockset.Now(s.now()), s.mu.Unlock
}

// Create implements [store.Store].
func (s *Store) Create(_ context.Context, in store.NewLock) (store.Lock, error) {
	state, now, unlock := s.lock()
	defer unlock()
	return state.Create(in, now)
}

// CreateAll implements [store.Store].
func (s *Store) CreateAll(_ context.Context, in []store.NewLock) ([]store.Lock, error) {
	state, now, unlock := s.lock()
	defer unlock()
	return state.CreateAll(in, now)
}

// Get implements [store.Store].
func (s *Store) Get(_ context.Context, id string) (store.Lock, error) {
	state, _, unlock := s.lock()
	defer unlock()
	return found(state.ByID(id))
}

// Holder implements [store.Store].
func (s *Store) Holder(_ context.Context, name string) (store.Lock, error) {
	state, _, unlock := s.lock()
	defer unlock()
	return found(state.ByName(name))
}

func found(r *lockset.Record) (store.Lock, error) {
	if r == nil {
		return store.Lock{}, store.ErrGone
	}
	return r.Lock, nil
}

// List implements [store.Store].
func (s *Store) List(context.Context) ([]store.Lock, error) {
	state, _, unlock := s.lock()
	records := state.Records()
	unlock()
	return lockset.List(records), nil
}

// Update implements [store.Store].
func (s *Store) Update(_ context.Context, id string, change store.Change) (store.Lock, error) {
	state, now, unlock := s.lock()
	defer unlock()
	return state.Update(id, change, now)
}

// Delete implements [store.Store].
func (s *Store) Delete(_ context.Context, id string, end store.Ending) (store.Lock, error) {
	state, now, unlock := s.lock()
	defer unlock()
	return state.Delete(id, end, now)
}

// HandOver implements [store.Store].
func (s *Store) HandOver(
	_ context.Context, id string, end store.Ending, next store.NewLock,
) (store.Handover, error) {
	state, now, unlock := s.lock()
	defer unlock()
	return state.HandOver(id, end, next, now), nil
}

// Claim implements [store.Store].
func (s *Store) Claim(_ context.Context, owner, mark string) (uint64, []store.Lock, error) {
	state, now, unlock := s.lock()
	defer unlock()
	return state.Claim(owner, mark, now)
}

// Cancel implements [store.Store].
func (s *Store) Cancel(_ context.Context, owner, mark string) ([]store.Lock, error) {
	state, now, unlock := s.lock()
	defer unlock()
	return state.Cancel(owner, mark, now)
}

// Sweep implements [store.Store].
func (s *Store) Sweep(_ context.Context, limits store.Limits) (store.Swept, error) {
	state, now, unlock := s.lock()
	defer unlock()
	state.ForgetMarks(now, math.MaxInt)
	return state.Sweep(limits, now), nil
}

// KeepHistory implements [store.Store]. An entry takes about 0.4 kB.
func (s *Store) KeepHistory(limits store.HistoryLimits) {
	_, _, unlock := s.lock()
	defer unlock()
	s.history.Keep(limits)
}

// History implements [store.Store].
func (s *Store) History(_ context.Context, q store.HistoryQuery) ([]store.Ended, error) {
	_, now, unlock := s.lock()
	past := s.history.At(now)
	unlock()
	return past.Find(q), nil
}

// Dump implements [store.Dumper].
func (s *Store) Dump(_ context.Context, use func(*store.Content) error) error {
	state, now, unlock := s.lock()
	c := state.Content(now)
	c.History = s.history.At(now).All()
	unlock()
	return use(c)
}

// InMemory implements [store.Memory].
func (s *Store) InMemory() {}

// Watch implements [store.Store]. It returns nil: no other server shares the store.
func (s *Store) Watch(context.Context, func(store.Event)) error { return nil }

// Ping implements [store.Store].
func (s *Store) Ping(context.Context) error { return nil }

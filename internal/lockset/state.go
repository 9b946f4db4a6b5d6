// Package lockset has the data structures on which a store in memory decides: locks, marks and the
// history.
package lockset

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// sweepBatch is the number of locks that one Sweep deletes at most, so that no call waits long.
const sweepBatch = 256

// forgetBatch is the number of marks that are forgotten at a time.
const forgetBatch = 256

// A State decides about the locks of one store. It reads no clock and is not safe for concurrent
// use. Make one with NewState.
type State struct {
	Set
	Claims    *Claims
	Cancelled Marks
	Token     uint64    // the last fencing token given out
	Ended     time.Time // when the last lock ended, as the history has it
	journal   Journal
}

// A Journal is told of each change to a State, in order.
type Journal interface {
	PutLock(r *Record)                   // r is new, or replaces the record with its id
	DropLock(r *Record, end store.Ended) // r was removed, and end is its entry of the history
	PutMark(m *Mark)                     // m was cancelled
	DropMark(m *Mark)                    // m was forgotten, or cancelled again
}

// NewState returns an empty state that tells j of its changes.
func NewState(j Journal) *State {
	return &State{Set: newSet(), Claims: new(Claims), journal: j}
}

// Now returns t as stores have it: in UTC and in whole microseconds.
func Now(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// inRange reports whether RFC 3339, whose years have four digits, can express t.
func inRange(t time.Time) bool { return 1 <= t.Year() && t.Year() <= 9999 }

// Create is store.Store's Create. The fencing token is max(the last one + 1, microseconds since
// 1970), so that tokens go on rising when an old backup is restored or locks come from another
// store.
func (s *State) Create(in store.NewLock, now time.Time) (store.Lock, error) {
	holder, err := s.refusal(&in, now)
	if err != nil {
		return holder, err
	}
	s.Token = max(s.Token+1, uint64(max(now.UnixMicro(), 0)))
	r := &Record{Record: store.Record{
		Lock: store.Lock{
			ID: in.ID, Name: in.Name, Creator: in.Creator, IP: in.IP,
			ExpiresAt: now.Add(in.TTL.Truncate(time.Microsecond)), CreatedAt: now, UpdatedAt: now,
			FencingToken: s.Token, Owner: in.Owner,
		},
		Mark: in.Mark, Leased: in.Leased, Waited: in.Queued.Truncate(time.Microsecond),
	}}
	r.setLease()
	s.journal.PutLock(r)
	s.Insert(r)
	return r.Lock, nil
}

// refusal returns why a create is refused, with the holder if the name is held.
func (s *State) refusal(in *store.NewLock, now time.Time) (holder store.Lock, err error) {
	if in.Mark != "" {
		switch {
		case s.Cancelled.Has(Key{in.Owner, in.Mark}, now):
			return store.Lock{}, store.ErrCancelled
		case s.Claims.Supersede(in):
			return store.Lock{}, store.ErrSuperseded
		}
	}
	if holder := s.ByName(in.Name); holder != nil {
		return holder.Lock, store.ErrHeld
	}
	if s.ByID(in.ID) != nil {
		return store.Lock{}, fmt.Errorf(
			"relukko: lock %q: its id %s is taken already", in.Name, in.ID)
	}
	return store.Lock{}, nil
}

// CreateAll is store.Store's CreateAll.
func (s *State) CreateAll(all []store.NewLock, now time.Time) ([]store.Lock, error) {
	locks := make([]store.Lock, len(all))
	var held error
	for i := range all {
		var err error
		switch locks[i], err = s.refusal(&all[i], now); err {
		case nil:
		case store.ErrHeld:
			held = err
		default:
			return nil, err
		}
	}
	if held != nil {
		return locks, held
	}
	for i := range all {
		var err error
		if locks[i], err = s.Create(all[i], now); err != nil {
			return nil, err // never, for names and ids that differ
		}
	}
	return locks, nil
}

// Update is store.Store's Update.
func (s *State) Update(id string, change store.Change, now time.Time) (store.Lock, error) {
	old := s.ByID(id)
	if old == nil {
		return store.Lock{}, store.ErrGone
	}
	r := &Record{Record: old.Record}
	switch {
	case change.ExpiresAt != nil:
		r.ExpiresAt = *change.ExpiresAt
	case change.Lease != nil:
		r.ExpiresAt = now.Add(*change.Lease)
	default:
		r.ExpiresAt = r.ExpiresAt.Add(change.Extend)
	}
	renewed := change.ExpiresAt != nil || change.Lease != nil || change.Extend != 0
	if bound := r.CreatedAt.Add(change.MaxHold); renewed && change.MaxHold > 0 &&
		r.ExpiresAt.After(bound) {
		r.ExpiresAt = bound
	}
	r.ExpiresAt = Now(r.ExpiresAt)
	if !inRange(r.ExpiresAt) {
		return store.Lock{}, store.ErrOutOfRange
	}
	if change.Creator != nil {
		r.Creator = change.Creator
	}
	r.UpdatedAt = now
	if renewed {
		r.setLease()
	}
	s.journal.PutLock(r)
	s.replace(r)
	return r.Lock, nil
}

// setLease sets the lease of a record whose expiry was set at its UpdatedAt.
func (r *Record) setLease() {
	if r.Leased {
		r.Lease = r.ExpiresAt.Sub(r.UpdatedAt)
	}
}

// Delete is store.Store's Delete.
func (s *State) Delete(id string, end store.Ending, now time.Time) (store.Lock, error) {
	r := s.ByID(id)
	if r == nil {
		return store.Lock{}, store.ErrGone
	}
	s.delete(r, end, now)
	return r.Lock, nil
}

// HandOver is store.Store's HandOver.
func (s *State) HandOver(
	id string, end store.Ending, next store.NewLock, now time.Time,
) (h store.Handover) {
	h.Deleted, h.DeleteErr = s.Delete(id, end, now)
	h.Created, h.CreateErr = s.Create(next, now)
	return h
}

// Claim is store.Store's Claim.
func (s *State) Claim(owner, mark string, now time.Time) (uint64, []store.Lock, error) {
	k := Key{owner, mark}
	if s.Cancelled.Has(k, now) {
		return 0, nil, store.ErrCancelled
	}
	return s.Claims.Claim(k, now), locksOf(s.marked(k)), nil
}

// Cancel is store.Store's Cancel.
func (s *State) Cancel(owner, mark string, now time.Time) ([]store.Lock, error) {
	k := Key{owner, mark}
	for !s.Cancelled.Has(k, now) && s.Cancelled.Owned(owner) >= store.MaxMarks {
		if s.ForgetMarks(now, forgetBatch) == 0 {
			return nil, store.ErrTooManyMarks
		}
	}
	m := &Mark{Key: k, Until: Now(now.Add(store.ClaimTime))}
	if old := s.Cancelled.Add(m); old != nil {
		s.journal.DropMark(old)
	}
	s.journal.PutMark(m)
	marked := s.marked(k)
	for _, r := range marked {
		s.delete(r, store.Ending{How: store.Cancelled, By: owner}, now)
	}
	return locksOf(marked), nil
}

// ForgetMarks drops cancelled marks whose time has run out, at most so many, and returns how many.
func (s *State) ForgetMarks(now time.Time, atMost int) int {
	forgotten := s.Cancelled.Forget(now, atMost)
	for _, m := range forgotten {
		s.journal.DropMark(m)
	}
	return len(forgotten)
}

// Sweep is store.Store's Sweep.
func (s *State) Sweep(limits store.Limits, now time.Time) store.Swept {
	swept := store.Swept{Now: now, Next: store.Never}
	s.sweepDue(&s.plain, now.Add(-limits.Grace), &swept, func(*Record) time.Duration { return 0 })
	steady := limits.Steady
	if now.After(limits.Latest) {
		steady = 0
	}
	s.sweepDue(&s.leased, now, &swept, func(r *Record) time.Duration {
		return min(max(r.Lease, 0), store.MaxSteady) - steady
	})
	return swept
}

// sweepDue deletes the records that are due at t, except those that must stay for longer.
func (s *State) sweepDue(
	h *dueHeap, t time.Time, swept *store.Swept, stay func(*Record) time.Duration,
) {
	var stayed []*item
	for len(*h) > 0 {
		first := (*h)[0]
		if left := first.at.Sub(t); left > 0 {
			swept.Next = min(swept.Next, left)
			break
		}
		if left := stay(first.Record); left > 0 {
			swept.Next = min(swept.Next, left)
			stayed = append(stayed, first)
			heap.Pop(h)
			continue
		}
		if len(swept.Locks) == sweepBatch {
			swept.Next = 0
			break
		}
		s.delete(first.Record, store.Ending{How: store.Expired}, swept.Now)
		swept.Locks = append(swept.Locks, first.Lock)
	}
	for _, i := range stayed {
		heap.Push(h, i)
	}
}

// delete removes a record. Its time in the history is after that of the one before, also where the
// clock was set back, so that entries are ordered by their times.
func (s *State) delete(r *Record, end store.Ending, now time.Time) {
	if next := s.Ended.Add(time.Microsecond); now.Before(next) {
		now = next
	}
	s.Ended = now
	s.journal.DropLock(r, store.Ended{
		Lock: r.Lock, Ending: end.Of(r.Owner), At: now, Waited: r.Waited,
	})
	s.remove(r)
}

// Content returns what the state has, apart from the history.
func (s *State) Content(now time.Time) *store.Content {
	c := &store.Content{At: now, Token: s.Token, Locks: make([]store.Record, 0, s.Len())}
	for _, r := range s.Records() {
		c.Locks = append(c.Locks, r.Record)
	}
	slices.SortFunc(c.Locks, func(a, b store.Record) int {
		return cmp.Compare(a.FencingToken, b.FencingToken)
	})
	for m := range s.Cancelled.all() {
		c.Marks = append(c.Marks, store.Mark{Owner: m.Owner, Mark: m.Mark, Until: m.Until})
	}
	return c
}

// List returns the locks of the records in the order of their creation, whatever the clock did.
func List(records []*Record) []store.Lock {
	locks := locksOf(records)
	slices.SortFunc(locks, func(a, b store.Lock) int {
		return cmp.Compare(a.FencingToken, b.FencingToken)
	})
	return locks
}

func locksOf(records []*Record) []store.Lock {
	locks := make([]store.Lock, len(records))
	for i, r := range records {
		locks[i] = r.Lock
	}
	return locks
}

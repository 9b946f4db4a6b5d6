package engine

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// all yields the places in their order. The one that is yielded may be removed.
func (q *queue) all() iter.Seq[*place] {
	return func(yield func(*place) bool) {
		for at := q.places.Front(); at != nil; {
			next := at.Next()
			if !yield(at.Value.(*place)) {
				return
			}
			at = next
		}
	}
}

// longWalk is the number of places that an insert passes before its place goes into the index.
const longWalk = 64

// insert adds a place. Most come last.
func (q *queue) insert(p *place) {
	p.queue = q
	after := q.places.Back()
	i, _ := slices.BinarySearchFunc(q.index, p, comparePlaces)
	if i < len(q.index) {
		after = q.index[i].at.Prev()
	}
	walked := 0
	for after != nil && comparePlaces(after.Value.(*place), p) > 0 {
		after = after.Prev()
		walked++
	}
	if after == nil {
		p.at = q.places.PushFront(p)
	} else {
		p.at = q.places.InsertAfter(p, after)
	}
	if walked > longWalk {
		q.index = slices.Insert(q.index, i, p)
		p.indexed = true
	}
	q.count(p, 1)
}

// remove removes a place that is in the queue.
func (q *queue) remove(p *place) {
	if p.indexed {
		at := slices.Index(q.index, p)
		q.index = slices.Delete(q.index, at, at+1)
		p.indexed = false
	}
	q.places.Remove(p.at)
	p.at = nil
	q.count(p, -1)
}

func (q *queue) count(p *place, n int) {
	if p.w == nil {
		return
	}
	switch {
	case p.w.patient():
		q.waiting += n
	case n < 0:
		delete(q.nowait, p.w)
	case q.nowait == nil:
		q.nowait = make(map[*Waiter]struct{})
		fallthrough
	default:
		q.nowait[p.w] = struct{}{}
	}
	if p.w.Progress {
		q.asking += n
	}
}

// anyWaits reports whether the queue has a waiter all of whose names were offered.
func (q *queue) anyWaits() bool {
	for p := range q.all() {
		if p.w != nil && p.w.patient() && !p.w.placing {
			return true
		}
	}
	return false
}

// ahead returns how many places are before one.
func (q *queue) ahead(p *place) int {
	before, after := p.at, p.at
	for n := 0; ; n++ {
		if before = before.Prev(); before == nil {
			return n
		}
		if after = after.Next(); after == nil {
			return q.places.Len() - 1 - n
		}
	}
}

// impatient returns the waiters, in their order, that do not wait and can be refused now.
func (q *queue) impatient() (waiters []*Waiter) {
	for w := range q.nowait {
		if w.idle() && !w.unready {
			waiters = append(waiters, w)
		}
	}
	slices.SortFunc(waiters, func(a, b *Waiter) int { return cmp.Compare(a.arrival, b.arrival) })
	return waiters
}

// endRound begins a new round if all waiters for all of several names have had a reservation.
func (q *queue) endRound() {
	for p := range q.all() {
		if p.w != nil && p.w.All && p.passed != q.round {
			return
		}
	}
	q.round++
}

// sawDeleted records that a lock of the name was deleted.
func (q *queue) sawDeleted(lock *store.Lock) {
	if q.last == nil || q.last.FencingToken < lock.FencingToken {
		q.last = lock
	}
}

// dead reports whether the lock is known to be gone: it was deleted while the store call that
// returned it was under way.
func (q *queue) dead(lock *store.Lock) bool {
	return q.last != nil && lock.FencingToken <= q.last.FencingToken ||
		q.holder != nil && lock.FencingToken < q.holder.FencingToken
}

// heldOff reports whether the name is not granted to a waiter, which may be nil, as others that
// come before it may still come back after the start.
func (q *queue) heldOff(w *Waiter) bool {
	return time.Now().Before(q.holdOff) && (w == nil || w.Place != q.grants+1)
}

func comparePlaces(a, b *place) int {
	if a.rank != b.rank {
		return cmp.Compare(a.rank, b.rank)
	}
	return cmp.Compare(a.arrival, b.arrival)
}

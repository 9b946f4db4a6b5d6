package engine

import (
	"cmp"
	"container/list"
	"iter"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// queue has the places of those who want one name, in their order. It exists while it has any, or
// while something is known of its name.
type queue struct {
	name    string
	places  list.List            // of *place
	signs   []*place             // some of the places, in their order, from which others are found
	waiting int                  // waiters that wait
	asking  int                  // waiters that want progress
	nowait  map[*Waiter]struct{} // the others

	busy  bool // a store call for the name is under way
	again bool // the name may have come free since that call began
	tried time.Time

	holder  *store.Lock // the lock that was last seen to hold the name; nil: unknown, or none
	last    *store.Lock // the youngest lock of the name that was deleted, if known
	wanted  bool        // the holder's connection was told that somebody waits
	holdOff time.Time   // until then the name is granted to nobody

	ranks    map[plainKey]*place // the ranks that are kept for plain clients
	reserved *place              // the plain client to which the name is reserved
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
	sign    bool          // it is one of the signs of the queue

	queue *queue
	w     *Waiter  // nil for a plain client that is not here
	plain plainKey // of such a one

	told     time.Duration // when its progress was last told
	ahead    int           // as last told; -1: never
	holderID string        // as last told
}

func comparePlaces(a, b *place) int {
	if a.rank != b.rank {
		return cmp.Compare(a.rank, b.rank)
	}
	return cmp.Compare(a.arrival, b.arrival)
}

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

// longWalk is the number of places that an insert passes before it puts up a sign.
const longWalk = 64

// insert adds a place. Most come last.
func (q *queue) insert(p *place) {
	p.queue = q
	after := q.places.Back()
	i, _ := slices.BinarySearchFunc(q.signs, p, comparePlaces)
	if i < len(q.signs) {
		after = q.signs[i].at.Prev()
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
		q.signs = slices.Insert(q.signs, i, p)
		p.sign = true
	}
	q.count(p, 1)
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

// remove removes a place that is in the queue.
func (q *queue) remove(p *place) {
	if p.sign {
		at := slices.Index(q.signs, p)
		q.signs = slices.Delete(q.signs, at, at+1)
		p.sign = false
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

// queueOf returns the queue of a name.
func (e *Engine) queueOf(name string) *queue {
	q := e.queues[name]
	if q == nil {
		q = &queue{name: name}
		e.queues[name] = q
	}
	return q
}

// tidy has a queue removed, when all is decided, if it is not needed any more.
func (e *Engine) tidy(q *queue) { e.untidy = append(e.untidy, q) }

func (e *Engine) drop(q *queue) {
	if q.places.Len() == 0 && !q.busy && q.reserved == nil && !q.refused &&
		!time.Now().Before(q.holdOff) && e.queues[q.name] == q {
		delete(e.queues, q.name)
		e.setHolder(q, nil)
	}
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

// setHolder records the lock that holds the name of the queue; nil: none, or it is not known.
func (e *Engine) setHolder(q *queue, lock *store.Lock) {
	if q.holder != nil {
		if e.byHolder[q.holder.ID] == q {
			delete(e.byHolder, q.holder.ID)
		}
		if lock == nil || lock.ID != q.holder.ID {
			q.wanted = false
		}
	}
	q.holder = lock
	if lock != nil {
		if lock.ID != "" {
			e.byHolder[lock.ID] = q
		}
		q.refused = false
	}
	e.recounted(q)
}

// recounted tells the holder's connection that waiters have come, or that none is left.
func (e *Engine) recounted(q *queue) {
	if e.board != nil {
		e.board.changed = true
	}
	if q.holder == nil || q.wanted == (q.waiting > 0) {
		return
	}
	if c := e.holding[q.holder.ID]; c != nil {
		q.wanted = q.waiting > 0
		e.tell(c.sink).Wanted(q.holder.ID, q.waiting)
	}
}

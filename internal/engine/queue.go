package engine

import (
	"cmp"
	"container/list"
	"iter"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// queue has the places of those who want one name, in their order. It exists while it has any, or
// while something is known of its name.
type queue struct {
	name    string
	places  list.List // of *place
	waiting int       // waiters that wait
	nowait  int       // waiters that do not
	asking  int       // waiters that want progress

	busy  bool // a store call for the name is under way
	again bool // the name may have come free since that call began
	tried time.Time

	holder  *store.Lock // the lock that was last seen to hold the name; nil: unknown, or none
	last    *store.Lock // the lock of the name that was deleted last, if known
	wanted  bool        // the holder's connection was told that somebody waits
	holdOff time.Time   // until then the name is granted to nobody

	reserved *place // the plain client to which the name is reserved
	lapsed   bool   // the last reservation has lapsed, and nobody was served since
	refused  bool   // a plain client was refused although no lock held the name

	retrying bool      // the name is offered again soon, as the store was unavailable
	told     time.Time // when progress was last told to all
	telling  bool      // it will be told to all soon
}

// place is a waiter's place in one queue, or the rank that a plain client keeps between two tries.
type place struct {
	rank    time.Duration // since the engine's start: least first
	arrival uint64        // among equal ranks
	at      *list.Element // nil: it is in no queue

	queue *queue
	w     *Waiter // nil for a plain client that is not here
	plain plainKey
	until time.Time // for which the rank of a plain client is kept

	ahead    int    // as last told; -1: never
	holderID string // as last told
}

func comparePlaces(a, b *place) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.arrival, b.arrival))
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

// insert adds a place. Most come last.
func (q *queue) insert(p *place) {
	after := q.places.Back()
	for after != nil && comparePlaces(after.Value.(*place), p) > 0 {
		after = after.Prev()
	}
	p.queue = q
	if after == nil {
		p.at = q.places.PushFront(p)
	} else {
		p.at = q.places.InsertAfter(p, after)
	}
	q.count(p, 1)
}

// remove removes a place that is in the queue.
func (q *queue) remove(p *place) {
	q.places.Remove(p.at)
	p.at = nil
	q.count(p, -1)
}

func (q *queue) count(p *place, n int) {
	if p.w == nil {
		return
	}
	if p.w.Wait {
		q.waiting += n
	} else {
		q.nowait += n
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

package engine

import (
	"container/list"
	"errors"
	"slices"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// offerAgain is how old the last offer of a name is when a new waiter offers it again, in case
// that an event was lost. A more recent offer would only be work for the store.
const offerAgain = time.Second

// The errors of an Acquire beside those of the store.
var (
	// ErrFull: too many creates are waiting.
	ErrFull = errors.New("relukko: too many creates are waiting")
	// ErrClientGone: the context ended first. Nothing was done.
	ErrClientGone = errors.New("relukko: the client is gone")
	// ErrClosing: the engine stopped while the create was waiting. Nothing was done.
	ErrClosing = errors.New("relukko: the server is shutting down")
)

// errLate: the time of a waiter was up while it was being offered the name, and it did not get it.
var errLate = errors.New("relukko: the wait is over")

// queues are where creates wait for names that are held: one queue a name, first come first
// served. They do no I/O. What a waiter gets is decided under the mutex, once.
type queues struct {
	mu       sync.Mutex
	byName   map[string]*queue
	byHolder map[string]*queue              // by the id of the lock that holds the name, if known
	marks    lockset.Index[string, *waiter] // of waiters that can be called off
	off      lockset.Tombstones             // marks called off recently
	total    int
	max      int
	newID    func() string
}

// queue is the waiters for one name. It exists while it has any, or its name is being offered.
type queue struct {
	name     string
	waiters  list.List // of *waiter
	offering bool      // a goroutine is offering the name to the head
	offered  time.Time // when the name was last offered
	again    bool      // the name may have come free since that goroutine last tried
	holder   string    // the id of the lock that was last seen to hold the name, if known
}

// waiter is a create that waits. When done is closed, lock and err are decided.
type waiter struct {
	in     store.NewLock
	since  time.Time
	queue  *queue
	offers bool // the name must be offered now that it has joined

	place     *list.Element // nil once it has left the queue
	markPos   int           // in queues.marks; -1: not in it
	done      chan struct{}
	lock      store.Lock
	err       error
	calledOff bool
	late      bool // its time is up: it is not offered the name again
	// It left without a result but with a mark, so a lock made for it is its client's.
	findable bool

	unknown []string // ids of locks for it whose creation has an unknown outcome
}

// IndexPos implements lockset.Indexed.
func (w *waiter) IndexPos() *int { return &w.markPos }

// made reports whether the lock with that id was made for the waiter.
func (w *waiter) made(id string) bool { return id == w.in.ID || slices.Contains(w.unknown, id) }

func (q *queues) init(maxWaiters int, newID func() string) {
	q.byName = make(map[string]*queue)
	q.byHolder = make(map[string]*queue)
	q.max, q.newID = maxWaiters, newID
}

// look reports whether any wait for the name, and whether the mark was called off, as far as this
// server knows; the store decides about that.
func (q *queues) look(name, mark string) (contended, calledOff bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len(name) > 0, mark != "" && q.off.Has(mark, time.Now())
}

// waiters returns how many wait for the name.
func (q *queues) waiters(name string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len(name)
}

func (q *queues) len(name string) int {
	if one := q.byName[name]; one != nil {
		return one.waiters.Len()
	}
	return 0
}

// allWaiters returns how many wait for each name.
func (q *queues) allWaiters() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	lens := make(map[string]int, len(q.byName))
	for name, one := range q.byName {
		lens[name] = one.waiters.Len()
	}
	return lens
}

// names returns the names that have a queue.
func (q *queues) names() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	names := make([]string, 0, len(q.byName))
	for name := range q.byName {
		names = append(names, name)
	}
	return names
}

// join adds a create to the end of its queue. If the waiter's offers is set, the caller must offer
// the name: the name may have come free before there was a queue, or an event may have been lost.
// The caller must call forget in the end.
func (q *queues) join(in store.NewLock) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if in.Mark != "" && q.off.Has(in.Mark, time.Now()) {
		return nil, store.ErrCalledOff
	}
	if q.total >= q.max {
		return nil, ErrFull
	}
	one := q.byName[in.Name]
	if one == nil {
		one = &queue{name: in.Name}
		q.byName[in.Name] = one
	}
	q.total++
	w := &waiter{in: in, since: time.Now(), queue: one, markPos: -1, done: make(chan struct{})}
	w.offers = one.waiters.Len() == 0 || w.since.Sub(one.offered) > offerAgain
	w.place = one.waiters.PushBack(w)
	if in.Mark != "" {
		q.marks.Add(in.Mark, w)
	}
	return w, nil
}

// leave removes a waiter from its queue. Told: its client is told that it has no lock. It reports
// false if the waiter has left already, and what was decided stands.
func (q *queues) leave(w *waiter, told bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil {
		return false
	}
	w.findable = !told && w.in.Mark != ""
	q.unlink(w)
	q.tidy(w.queue)
	return true
}

// expire reports whether a waiter whose time is up must wait for the end of the offer that is being
// made to it; it is done then. Otherwise its client could be told that the name is held by the very
// lock that is being made for it.
func (q *queues) expire(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place != nil && w.queue.offering && w.queue.head() == w {
		w.late = true
	}
	return w.late
}

// forget makes sure that the waiter is not called off any more, and reports whether it was, which
// may have been after it was granted the lock.
func (q *queues) forget(w *waiter) (calledOff bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.markPos >= 0 {
		q.marks.Remove(w.in.Mark, w)
		w.markPos = -1
	}
	return w.calledOff
}

// callOff refuses all waiters with that mark, tells those that were just granted a lock, and
// remembers the mark for as long as keep.
func (q *queues) callOff(mark string, keep time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.off.Forget(now, lockset.MaxTombstones)
	q.off.Add(&lockset.Tombstone{Mark: mark, Until: now.Add(keep)})
	for _, w := range q.marks.All(mark) {
		w.calledOff = true
		if w.place != nil {
			q.decide(w, store.Lock{}, store.ErrCalledOff)
			q.tidy(w.queue)
		}
	}
}

// offer begins to offer a name and returns the head of its queue. The caller creates the lock,
// calls accept or refuse, then next, and so on until there is no waiter. Offer returns nil if there
// is no queue, or if another goroutine is offering the name; that one then tries once more.
func (q *queues) offer(name string) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := q.byName[name]
	switch {
	case one == nil:
		return nil
	case one.offering:
		one.again = true
		return nil
	}
	return one.offer()
}

// offerHeldBy does the same for the name that the lock with that id, which is about to be deleted,
// holds. It returns nil also if it is not known that the lock holds the name of a queue.
func (q *queues) offerHeldBy(id string) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := q.byHolder[id]
	if one == nil || one.offering || one.waiters.Len() == 0 {
		return nil
	}
	return one.offer()
}

// heldBy records that the lock with that id holds the name of the queue.
func (q *queues) heldBy(one *queue, id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.setHolder(one, id)
}

func (q *queues) setHolder(one *queue, id string) {
	delete(q.byHolder, one.holder)
	one.holder = id
	if id != "" {
		q.byHolder[id] = one
	}
}

// outcomeUnknown records that the lock of a waiter may have been made, or may yet be. The next one
// has another id, so that a late one is not mistaken for it. It reports false if the waiter has
// left and the lock is nobody's.
func (q *queues) outcomeUnknown(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil {
		return w.findable
	}
	w.unknown = append(w.unknown, w.in.ID)
	w.in.ID = q.newID()
	return true
}

// accept gives the waiter the lock made for it. It reports false if the waiter has left and the
// lock is nobody's.
func (q *queues) accept(w *waiter, lock store.Lock) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil && !w.findable {
		return false
	}
	if w.place != nil {
		q.decide(w, lock, nil)
	}
	q.setHolder(w.queue, lock.ID)
	return true
}

// refuse ends a waiter with err, if it still waits.
func (q *queues) refuse(w *waiter, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place != nil {
		q.decide(w, store.Lock{}, err)
	}
}

// refuseAll ends all waiters of a queue with err.
func (q *queues) refuseAll(one *queue, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for w := one.head(); w != nil; w = one.head() {
		q.decide(w, store.Lock{}, err)
	}
}

// next goes on with an offer after w was tried: to the head of the queue if the name may be free.
// The offer has ended when it returns nil.
func (q *queues) next(w *waiter, free bool) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := w.queue
	for head := one.head(); head != nil && head.late; head = one.head() {
		q.decide(head, store.Lock{}, errLate)
	}
	if free || one.again {
		one.again = false
		if head := one.head(); head != nil {
			return head
		}
	}
	one.offering = false
	q.tidy(one)
	return nil
}

func (q *queues) decide(w *waiter, lock store.Lock, err error) {
	w.lock, w.err = lock, err
	q.unlink(w)
	close(w.done)
}

func (q *queues) unlink(w *waiter) {
	w.queue.waiters.Remove(w.place)
	w.place = nil
	q.total--
}

func (q *queues) tidy(one *queue) {
	if one.waiters.Len() == 0 && !one.offering {
		delete(q.byName, one.name)
		delete(q.byHolder, one.holder)
	}
}

func (one *queue) offer() *waiter {
	one.offering, one.offered = true, time.Now()
	return one.head()
}

func (one *queue) head() *waiter {
	if front := one.waiters.Front(); front != nil {
		return front.Value.(*waiter)
	}
	return nil
}

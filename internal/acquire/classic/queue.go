package classic

import (
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
)

// queue is what all calls of one client that wait for the same name share. They
// are served in their order, and only the first of them asks the backend:
// however many there are, a release costs one request. Each process that waits
// has to send that one, since nothing tells it that another one was faster.
type queue struct {
	name   string
	signal chan struct{}        // a hint is pending
	turn   *semaphore.Weighted  // held by the first
	pace   pacer                // used by the first
	calls  map[*member]struct{} // guarded by queues.mu

	mu      sync.Mutex
	pending hint
	held    bool      // since somebody was known to hold the name, nothing was heard
	holder  string    // the id of that lock; empty where that is not known
	version int       // counts how often held and holder were given up
	seen    string    // the id of the last lock that was known to hold the name
	missed  int       // releases since one of the calls last got the lock
	heard   time.Time // when the backend last said who holds the name
}

// member is a call as its queue sees it.
type member struct {
	mark     string // of its creates
	progress interface{ is(holder *api.Lock) }
}

// queues are the queues of one client.
type queues struct {
	mu        sync.Mutex
	byName    map[string]*queue
	contended map[string]time.Time // when another process was last faster
	vague     bool                 // the last broadcast of a deletion named no lock
}

// join returns the queue for a name with m as one of its calls. From now on no
// release goes unnoticed while push is up. fresh reports that the queue is new.
func (qs *queues) join(name string, m *member) (q *queue, fresh bool) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q = qs.byName[name]
	if q == nil {
		q = &queue{
			name:   name,
			signal: make(chan struct{}, 1),
			turn:   semaphore.NewWeighted(1),
			pace:   newPacer(),
			calls:  make(map[*member]struct{}),
		}
		if qs.byName == nil {
			qs.byName = make(map[string]*queue)
		}
		qs.byName[name] = q
		fresh = true
	}
	q.calls[m] = struct{}{}
	return q, fresh
}

// leave removes m from its queue.
func (qs *queues) leave(q *queue, m *member) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	delete(q.calls, m)
	if len(q.calls) == 0 {
		delete(qs.byName, q.name)
	}
}

// waiting reports whether a call waits for the name.
func (qs *queues) waiting(name string) bool {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return qs.byName[name] != nil
}

// all returns the queues as of now.
func (qs *queues) all() []*queue {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	all := make([]*queue, 0, len(qs.byName))
	for _, q := range qs.byName {
		all = append(all, q)
	}
	return all
}

// named returns the queue for a name, or nil.
func (qs *queues) named(name string) *queue {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return qs.byName[name]
}

// tell reports a holder to all calls that wait for its name, as only the first
// of them asks.
func (qs *queues) tell(q *queue, holder *api.Lock) {
	if holder == nil {
		return
	}
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for m := range q.calls {
		if !bears(holder, m.mark) {
			m.progress.is(copied(holder))
		}
	}
}

// lostRace records that another process was faster to lock the name.
func (qs *queues) lostRace(name string) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for other, at := range qs.contended {
		if time.Since(at) > contendedFor {
			delete(qs.contended, other)
		}
	}
	if qs.contended == nil {
		qs.contended = make(map[string]time.Time)
	}
	qs.contended[name] = time.Now()
}

// released records that a lock of this client is about to be released. Where
// broadcasts name no lock, other processes need a moment to find out: locking
// it again without a pause would keep them out for good.
func (qs *queues) released(name string) {
	qs.mu.Lock()
	contend := qs.vague && len(qs.byName) > 1
	qs.mu.Unlock()
	if contend {
		qs.lostRace(name)
	}
}

// yield returns how long to leave the name to other processes.
func (qs *queues) yield(name string, missed int) time.Duration {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return yield(time.Now(), qs.contended[name], qs.vague, missed, rand.N[time.Duration])
}

// deleted passes a broadcast of a deletion on to the queues that it may be
// about. One that gives only an id is about another lock for sure only where
// the holder's id is known. It returns the queues that it may be about where
// these are several: one List then tells which of their names are free.
func (qs *queues) deleted(id, name string) (unsure []*queue) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.vague = name == "" && id == ""
	if name != "" {
		if q := qs.byName[name]; q != nil {
			q.notify(hintReleased)
		}
		return nil
	}
	for _, q := range qs.byName {
		switch holder := q.holderID(); {
		case id == "" || holder == "":
			unsure = append(unsure, q)
		case id == holder:
			q.notify(hintReleased)
		}
	}
	if len(unsure) != 1 {
		return unsure
	}
	if id != "" {
		unsure[0].notify(hintLikely)
	} else {
		unsure[0].notify(hintMaybe)
	}
	return nil
}

// notify has the first call handle a hint.
func (q *queue) notify(h hint) {
	q.mu.Lock()
	if h >= hintMaybe {
		q.forget()
	}
	q.pending = max(q.pending, h)
	q.mu.Unlock()
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// take returns the pending hint, and for a release how many were missed.
func (q *queue) take() (h hint, missed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h, q.pending = q.pending, hintNone
	if h == hintReleased {
		q.missed++
		q.seen = ""
	}
	return h, q.missed
}

// unknown gives up what is known of the holder.
func (q *queue) unknown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget()
}

func (q *queue) forget() {
	q.held, q.holder = false, ""
	q.version++
}

func (q *queue) isHeld() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

func (q *queue) holderID() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.holder
}

// asking returns the version of what is known, to be passed to found or got
// with the answer to a request that is sent after this call.
func (q *queue) asking() (version int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.version
}

// found records that the backend said who holds the name, which may be nil. It
// reports whether the lock has changed hands unnoticed.
func (q *queue) found(holder *api.Lock, version int) (unnoticed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.heard = time.Now()
	if holder == nil {
		return false
	}
	unnoticed = q.seen != "" && q.seen != holder.ID
	if unnoticed {
		q.missed++
	}
	q.seen = holder.ID
	if version == q.version {
		q.held, q.holder = true, holder.ID
	}
	return unnoticed
}

// got records that the first call has got the lock. The next one does not
// learn its id, so that it has no advantage over other processes.
func (q *queue) got(version int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.heard, q.missed = time.Now(), 0
	if version == q.version {
		q.held, q.pending = true, hintNone
	}
}

// lastHeard returns when the backend last said who holds the name.
func (q *queue) lastHeard() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.heard
}

// stepBack ends the turn of the first call, which has not got the lock: the
// next one looks, as it does not know what the first one has heard.
func (q *queue) stepBack() {
	q.notify(hintUnheard)
	q.turn.Release(1)
}

package classic

import (
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// queue is what the calls of one client that wait for the same name share. The calls are served in
// their order, and only the first one asks the backend: a release costs one request, however many
// calls wait. Each waiting process must send that request, since nothing tells it that another was
// faster.
type queue struct {
	name   string
	signal chan struct{}        // has an element while a hint is pending
	turn   *semaphore.Weighted  // held by the first call
	pace   pacer                // used by the first call
	calls  map[*queued]struct{} // guarded by queues.mu

	mu      sync.Mutex
	pending hint
	held    bool      // the name was held, and no hint to the contrary has come since
	holder  string    // the id of the lock that holds it; "" if unknown
	version int       // counts how often held and holder were reset
	seen    string    // the id of the last lock known to hold the name, also after a reset
	missed  int       // releases since a call of this queue last got the lock
	heard   time.Time // when the backend last said who holds the name
}

// queued is the part of a call that its queue uses.
type queued struct {
	mark     string // of its creates
	progress interface{ is(holder *api.Lock) }
}

// queues are the queues of one client.
type queues struct {
	mu        sync.Mutex
	byName    map[string]*queue
	contended map[string]time.Time // when another process was last faster
	vague     bool                 // the last broadcast of a deletion named no lock
	gone      map[string]time.Time // when the deletion of a lock with that id was broadcast
	pruned    time.Time            // when gone was pruned
}

// join adds m to the queue for the name. From then on the queue gets every hint about the name
// while push is up. fresh reports whether the queue is new.
func (qs *queues) join(name string, m *queued) (q *queue, fresh bool) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q = qs.byName[name]
	if q == nil {
		q = &queue{
			name:   name,
			signal: make(chan struct{}, 1),
			turn:   semaphore.NewWeighted(1),
			pace:   newPacer(),
			calls:  make(map[*queued]struct{}),
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
func (qs *queues) leave(q *queue, m *queued) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	delete(q.calls, m)
	if len(q.calls) == 0 {
		delete(qs.byName, q.name)
	}
}

// waiting reports whether any call waits for the name.
func (qs *queues) waiting(name string) bool {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return qs.byName[name] != nil
}

// all returns all queues.
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

// tell reports the holder to all calls of the queue, since only the first one asks the backend.
func (qs *queues) tell(q *queue, holder *api.Lock) {
	if holder == nil {
		return
	}
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for m := range q.calls {
		if !bears(holder, m.mark) {
			m.progress.is(acquire.Copied(holder))
		}
	}
}

// lostRace records that another process has locked the name first.
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

// released records that a lock of this client is about to be released. If broadcasts name no lock,
// other processes need a moment to learn of it; without a pause this process would always be first.
func (qs *queues) released(name string) {
	qs.mu.Lock()
	contend := qs.vague && len(qs.byName) > 1
	qs.mu.Unlock()
	if contend {
		qs.lostRace(name)
	}
}

// yield returns how long to leave the name to other processes, after the given number of missed
// releases.
func (qs *queues) yield(name string, missed int) time.Duration {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return yield(time.Now(), qs.contended[name], qs.vague, missed, rand.N[time.Duration])
}

// deleted passes a broadcast of a deletion on to the queues for whose locks it may be. id and name
// are "" if the broadcast does not say them. If it does not say whose lock it is, and several
// queues are left, deleted returns them: one List must then show which of their names are free.
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
	qs.remember(id)
	for _, q := range qs.byName {
		switch holder := q.holderID(); {
		case qs.vague || holder == "":
			unsure = append(unsure, q)
		case holder == id:
			q.notify(hintReleased)
		}
	}
	if len(unsure) != 1 {
		return unsure
	}
	h := hintLikely
	if qs.vague {
		h = hintMaybe
	}
	unsure[0].notify(h)
	return nil
}

// remember records the id of a lock that was deleted, for as long as a List from before that may
// take.
func (qs *queues) remember(id string) {
	if id == "" || len(qs.byName) == 0 {
		return
	}
	now := time.Now()
	if qs.gone == nil {
		qs.gone = make(map[string]time.Time)
	}
	if now.Sub(qs.pruned) > listTimeout {
		qs.pruned = now
		maps.DeleteFunc(qs.gone, func(_ string, at time.Time) bool {
			return now.Sub(at) > listTimeout
		})
	}
	qs.gone[id] = now
}

// isGone reports whether the deletion of the lock was broadcast after the response that has it was
// sent: nobody else will say that the name is free.
func (qs *queues) isGone(lock *api.Lock) bool {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	_, gone := qs.gone[lock.ID]
	return gone
}

// notify passes a hint to the first call.
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

// take returns and clears the pending hint. missed is the number of releases that this process has
// missed, which counts this one if the hint is a release.
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

// unknown forgets what is known of the holder.
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

// asking returns the version of what is known. The caller then sends a request, and passes the
// version to found or got with the response.
func (q *queue) asking() (version int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.version
}

// found records the lock that holds the name by a response of the backend; nil if the response does
// not say. unnoticed reports whether the name has been released and locked again without a hint.
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

// got records that the first call got the lock. It leaves the id of the lock unknown to the next
// call, which would otherwise have an advantage over other processes.
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

// stepBack passes the turn from the first call, which did not get the lock, to the next. The next
// one asks the backend, since it does not know what the first one has heard.
func (q *queue) stepBack() {
	q.notify(hintUnheard)
	q.turn.Release(1)
}

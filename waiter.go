package relukko

import (
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
)

// A wake says why a waiter should look again; the larger one wins.
type wake int

const (
	wakeNone   wake = iota
	wakeState       // push came or went: poll at another pace
	wakeMaybe       // some lock was released, possibly this one
	wakeLikely      // a lock of this id was, and nobody knows yet whether it is this one's
	wakeLook        // this one may have been while nobody listened
	wakeSure        // this one was released
)

// waiter is what all Locks of one client that wait for the same name share.
// They stand in line, and only the first of them asks the backend: however many
// there are, a release costs one request. Each process that waits has to send
// that one, since nothing tells it that another one was faster.
type waiter struct {
	name   string
	signal chan struct{}             // something is pending
	turn   *semaphore.Weighted       // held by the first in the line
	locks  map[*acquisition]struct{} // under hub.mu

	// For the first in the line only:
	noise time.Duration // before it looks for a release that need not have been this one's
	noisy time.Time     // when noise last rose
	paced time.Time     // until when looks have been made

	mu      sync.Mutex
	pending wake
	held    bool      // nothing was heard since somebody was known to hold the name
	holder  string    // id of that lock; empty where nobody can tell
	doubts  int       // how often it was taken to be another one from then on
	seen    string    // id of the last lock that was known to hold it
	missed  int       // releases since one of the line last got the lock
	word    time.Time // when the backend last told one of the line who has the lock
}

// await has a wait for its name. From now on no release goes unnoticed while
// push is up. It reports whether nobody waited before.
func (h *hub) await(a *acquisition) (w *waiter, fresh bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w = h.waiters[a.m.name]
	if w == nil {
		w = &waiter{name: a.m.name, signal: make(chan struct{}, 1), turn: semaphore.NewWeighted(1), locks: make(map[*acquisition]struct{})}
		h.waiters[w.name] = w
		fresh = true
	}
	w.locks[a] = struct{}{}
	h.listen()
	return w, fresh
}

// forget is called when a no longer waits, with the session that it got, or
// nil. The next in the line is the first one then.
func (h *hub) forget(a *acquisition, w *waiter, s *Session) {
	if a.first {
		if s != nil {
			w.taken(a.doubts)
			w.turn.Release(1)
		} else {
			w.leave()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(w.locks, a)
	if len(w.locks) == 0 {
		delete(h.waiters, w.name)
	}
	h.rest()
}

// tell has all who wait with w know that holder has the lock: only the first in
// the line asks.
func (h *hub) tell(w *waiter, holder *api.Lock) {
	if holder == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	w.tell(copied(holder))
}

// tell is for hub.tell. The caller holds h.mu.
func (w *waiter) tell(holder *api.Lock) {
	for a := range w.locks {
		if !a.owns(holder) {
			a.report.holderIs(holder)
		}
	}
}

// leave ends the turn of the first in the line, who has not got the lock.
func (w *waiter) leave() {
	w.notify(wakeLook) // what he heard he may have kept to himself
	w.turn.Release(1)
}

// awaited reports whether somebody waits for the name.
func (h *hub) awaited(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiters[name] != nil
}

// lostRace notes that a release was heard and somebody else was faster.
func (h *hub) lostRace(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rival(name)
}

// gave notes that a lock of this client is about to be released. Where nobody is
// told which lock it was, others need a moment to find out; who locks it again
// at once would keep them out for good.
func (h *hub) gave(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blind && len(h.waiters) > 1 {
		h.rival(name)
	}
}

func (h *hub) rival(name string) {
	for name, at := range h.rivals {
		if time.Since(at) > rivalsFor {
			delete(h.rivals, name)
		}
	}
	h.rivals[name] = time.Now()
}

// courtesy is how long to leave the name to other processes that want it too,
// after missed releases: who has waited longest goes first. 0 where none do.
func (h *hub) courtesy(name string, missed int) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, ok := h.rivals[name]; !ok || time.Since(at) > rivalsFor {
		return 0
	}
	pause := courtesy
	if h.blind {
		pause = blindCourtesy
	}
	return (pause/2 + rand.N(pause/2)) / time.Duration(max(1, missed))
}

const (
	courtesy      = 2 * time.Millisecond
	blindCourtesy = listPause // who waits learns of a release by a List only
	rivalsFor     = 10 * time.Second
)

// pushed reports whether push is up.
func (h *hub) pushed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connected
}

// released wakes those for whom a deletion may be the one that they wait for.
// One that tells only an id is another lock's for sure only when it is known
// which id holds the name. Where it may be several names', one List tells which
// of them are free. The caller holds h.mu.
func (h *hub) released(event api.Event) {
	h.blind = event.Name == "" && event.ID == ""
	if event.Name != "" {
		if w := h.waiters[event.Name]; w != nil {
			w.notify(wakeSure)
		}
		return
	}
	var unsure []*waiter
	for _, w := range h.waiters {
		switch holder := w.holderID(); {
		case event.ID == "" || holder == "":
			unsure = append(unsure, w)
		case event.ID == holder:
			w.notify(wakeSure)
		}
	}
	switch len(unsure) {
	case 0:
	case 1:
		if event.ID != "" {
			unsure[0].notify(wakeLikely)
		} else {
			unsure[0].notify(wakeMaybe)
		}
	default:
		h.unsure = true
		h.list()
	}
}

func (w *waiter) notify(why wake) {
	if why >= wakeMaybe {
		w.doubt()
	}
	w.mu.Lock()
	w.pending = max(w.pending, why)
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// doubt makes it unknown who holds the name.
func (w *waiter) doubt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held, w.holder = false, ""
	w.doubts++
}

// pace is how long to put off a look: whoever floods us with broadcasts must not
// make us flood the backend.
func (w *waiter) pace() time.Duration {
	now := time.Now()
	if earliest := now.Add(-paceBurst); w.paced.Before(earliest) {
		w.paced = earliest
	}
	w.paced = w.paced.Add(paceOf)
	return max(0, w.paced.Sub(now))
}

// take returns what is pending and forgets it.
func (w *waiter) take() wake {
	w.mu.Lock()
	defer w.mu.Unlock()
	why := w.pending
	w.pending = wakeNone
	return why
}

func (w *waiter) isHeld() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

func (w *waiter) holderID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holder
}

// ask is called before the backend is asked who holds the name, in one way or
// another, and found with its result and the answer.
func (w *waiter) ask() (doubts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doubts
}

// look asks for the first in the line, by a List that is about to be sent.
func (h *hub) look(w *waiter) (answer func(holder *api.Lock, err error)) {
	doubts := w.ask()
	return func(holder *api.Lock, err error) {
		switch {
		case err != nil:
			w.notify(wakeMaybe)
		case holder == nil:
			w.notify(wakeSure)
		default:
			if w.found(holder, doubts) {
				h.lostRace(w.name)
			}
		}
	}
}

// found reports whether the lock has changed hands unnoticed.
func (w *waiter) found(holder *api.Lock, doubts int) (missed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.word = time.Now()
	if holder == nil {
		return false
	}
	if missed = w.seen != "" && w.seen != holder.ID; missed {
		w.missed++
	}
	w.seen = holder.ID
	if doubts == w.doubts {
		w.held, w.holder = true, holder.ID
	}
	return missed
}

// miss counts a release, and returns how many there were.
func (w *waiter) miss() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed++
	w.seen = ""
	return w.missed
}

// taken is found for the first in the line when it has got the lock: what was
// heard before is settled by that. The next one does not learn its id, so that
// it has no advantage over other processes.
func (w *waiter) taken(doubts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.word, w.missed = time.Now(), 0
	if doubts == w.doubts {
		w.held, w.pending = true, wakeNone
	}
}

// lastWord is when the backend last told one of the line who has the lock.
func (w *waiter) lastWord() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.word
}

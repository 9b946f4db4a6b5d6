package pgstore

import (
	"maps"
	"slices"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	maxHolders   = 10_000                 // locks that are checked
	maxTried     = 20_000                 // names for which notes are renewed
	checkEvery   = time.Second            // while the other servers are heard
	checkUnheard = 200 * time.Millisecond // while they are not: well within the time of a turn
	ownQueueHas  = 50 * time.Millisecond  // to take a free name before its note is withdrawn
	turnSlack    = 5 * time.Millisecond   // after the end of another server's turn
	renewEvery   = 15 * time.Second       // notes, which last for 40 s
	checkAtLeast = time.Minute            // even if nothing is expected
)

// tracker knows what has to be found out because no notification says it: that a lock is gone
// although the server that deleted it died before it notified; that another server did not use its
// turn; that a note about a waiter of this server is obsolete. So a lost notification costs only
// latency.
type tracker struct {
	bell chan struct{}

	mu      sync.Mutex
	next    time.Time             // when the next check is due, if the bell does not ring
	unheard bool                  // the other servers are not heard
	holders map[string]store.Lock // by id: locks that were in the way of a create
	turns   map[string]time.Time  // by name: when the turn of another server ends
	tried   map[string]time.Time  // by name: the last try here by a waiter, which left a note
	// Names with such a note that have come free, in the order of time.
	freed []freed
}

type freed struct {
	name string
	at   time.Time
}

func (t *tracker) init() {
	t.bell = make(chan struct{}, 1)
	t.unheard = true
	t.holders = make(map[string]store.Lock)
	t.turns = make(map[string]time.Time)
	t.tried = make(map[string]time.Time)
	t.next = time.Now()
}

func (t *tracker) setUnheard(unheard bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unheard = unheard
	t.ring()
}

// ring makes the poller compute anew when the next check is due.
func (t *tracker) ring() {
	select {
	case t.bell <- struct{}{}:
	default:
	}
}

func (t *tracker) pause() time.Duration {
	if t.unheard {
		return checkUnheard
	}
	return checkEvery
}

// expect makes sure that there is a check at that time at the latest. It rings only if need be, so
// that a thousand names that come free do not ring a thousand times.
func (t *tracker) expect(at time.Time) {
	if at.Before(t.next) {
		t.next = at
		t.ring()
	}
}

// held records that the holder is in the way of a create.
func (t *tracker) held(in store.NewLock, holder store.Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.track(holder)
	delete(t.turns, in.Name)
	if in.Waited != 0 {
		t.note(in.Name, time.Now())
	}
}

// inTheWay records a holder of a name that somebody wants.
func (t *tracker) inTheWay(holder store.Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.track(holder)
}

// track makes sure that it is noticed when the lock is gone.
func (t *tracker) track(holder store.Lock) {
	switch len(t.holders) {
	case 0:
		t.expect(time.Now().Add(t.pause()))
	case maxHolders:
		for id := range t.holders { // any
			delete(t.holders, id)
			break
		}
	}
	t.holders[holder.ID] = holder
}

// left records that this server's first waiter has left the name to another server for that long.
func (t *tracker) left(name string, leave time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.turns[name] = now.Add(leave + turnSlack)
	t.note(name, now)
	t.expect(t.turns[name])
}

// note records that this server's first waiter has tried for the name, which left a note.
func (t *tracker) note(name string, now time.Time) {
	if _, known := t.tried[name]; !known && len(t.tried) == maxTried {
		for other := range t.tried { // any
			delete(t.tried, other)
			break
		}
	}
	t.tried[name] = now
}

// outcomeUnknown records that a lock of that name may have been deleted.
func (t *tracker) outcomeUnknown(id, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.holders[id]; !known {
		t.track(store.Lock{ID: id, Name: name})
	}
}

// made records that a create has succeeded, which removes the note about this server's waiter.
func (t *tracker) made(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.turns, name)
	delete(t.tried, name)
}

// free records that a lock was deleted.
func (t *tracker) free(lock store.Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.holders, lock.ID)
	if _, noted := t.tried[lock.Name]; noted {
		t.freed = append(t.freed, freed{lock.Name, time.Now()})
		t.expect(t.freed[0].at.Add(ownQueueHas))
	}
}

// noted returns the names for which there may be a note about a waiter of this server.
func (t *tracker) noted() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.tried))
}

// due returns the names that may be free because another server's turn is over, those for which no
// client waits here any more, whether the holders, which were last checked at checked, are to be
// checked, and how long there is nothing else to do.
func (t *tracker) due(now, checked time.Time) (
	free, obsolete []string, check bool, wait time.Duration,
) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := now.Add(checkAtLeast)
	for name, at := range t.turns {
		if now.Before(at) {
			next = earlier(next, at)
			continue
		}
		delete(t.turns, name)
		free = append(free, name)
	}
	for len(t.freed) > 0 {
		first := t.freed[0]
		if at := first.at.Add(ownQueueHas); now.Before(at) {
			next = earlier(next, at)
			break
		}
		t.freed = t.freed[1:]
		if tried, noted := t.tried[first.name]; noted && tried.Before(first.at) {
			delete(t.tried, first.name)
			obsolete = append(obsolete, first.name)
		}
	}
	if len(t.holders) > 0 {
		at := checked.Add(t.pause())
		check = !now.Before(at)
		next = earlier(next, at)
	}
	t.next = next
	return free, obsolete, check, max(next.Sub(now), 0)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

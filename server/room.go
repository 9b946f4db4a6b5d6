package server

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// newsLost is how long after an offer whoever joins the line has the name offered again: he is the one to see to it that a name is
// not left idle for which news were lost. Sooner would be no more than work for the store, and hold up the offer that counts.
const newsLost = time.Second

var (
	// errFull: as many creates queue as may.
	errFull = errors.New("relukko: too many creates are waiting")
	// errLate: the time of a waiter was up while it was being offered the name, and it did not get it.
	errLate = errors.New("relukko: the wait is over")
)

// room is where creates queue for names that are held: one line a name, first in, first out. It knows nothing of HTTP
// and does no I/O. What a waiter learns in the end is decided under the mutex, once.
type room struct {
	mu    sync.Mutex
	lines map[string]*line
	marks map[string][]*waiter // who can be called off: queued, or granted but not yet told so
	off   tombstones           // marks called off of late, so that stragglers don't queue
	held  map[string]*line     // by the id of the lock that holds its name, where that is known
	total int
	max   int
}

// line is the queue for one name. It exists while somebody is in it, or is being offered the name.
type line struct {
	name     string
	waiters  list.List // of *waiter
	offering bool      // a goroutine is offering the name to the head
	offered  time.Time // when the name was last offered
	again    bool      // the name may have come free since that goroutine last tried
	holder   string    // the id of the lock that was last seen to hold the name; empty: not known
}

// waiter is a create that queues.
type waiter struct {
	in    NewLock
	since time.Time
	line  *line
	looks bool // the name must be offered now that he has joined

	place   *list.Element // nil once it has left the line
	markPos int           // in room.marks
	done    chan struct{} // closed when the room has decided lock and err
	lock    Lock          // the lock granted
	err     error         // or why there is none
	off     bool          // called off
	late    bool          // its time is up, it is not to be offered the name again
	finds   bool          // it has left without an answer, and has a mark: a lock made for it is its caller's to find, or to call off

	doubts []string // the ids of locks for it that may have been made, or may yet, although nobody heard of it
}

func (ro *room) init(maxWaiters int) {
	ro.lines = make(map[string]*line)
	ro.marks = make(map[string][]*waiter)
	ro.held = make(map[string]*line)
	ro.max = maxWaiters
}

// look tells a newcomer whether somebody is in line for the name already, and whether its mark was called off, as far as
// this server heard: the store has the last word on that.
func (ro *room) look(name, mark string) (queued, calledOff bool) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if l := ro.lines[name]; l != nil {
		queued = l.waiters.Len() > 0
	}
	return queued, mark != "" && ro.off.has(mark, time.Now())
}

// count answers how many are in line for the name.
func (ro *room) count(name string) int {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if l := ro.lines[name]; l != nil {
		return l.waiters.Len()
	}
	return 0
}

// counts answers what count would for each name, as of now.
func (ro *room) counts() func(name string) int {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	lens := make(map[string]int, len(ro.lines))
	for name, l := range ro.lines {
		lens[name] = l.waiters.Len()
	}
	return func(name string) int { return lens[name] }
}

// names answers the names for which somebody is in line.
func (ro *room) names() []string {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	names := make([]string, 0, len(ro.lines))
	for name := range ro.lines {
		names = append(names, name)
	}
	return names
}

// join puts a create at the end of the line for its name. Who joins must offer the name afterwards where looks says so: the
// first in line because it may have come free before there was a line, others now and then. He must call forget in the end.
func (ro *room) join(in NewLock) (*waiter, error) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if in.Mark != "" && ro.off.has(in.Mark, time.Now()) {
		return nil, ErrCalledOff
	}
	if ro.total >= ro.max {
		return nil, errFull
	}
	l := ro.lines[in.Name]
	if l == nil {
		l = &line{name: in.Name}
		ro.lines[in.Name] = l
	}
	ro.total++
	w := &waiter{in: in, since: time.Now(), line: l, done: make(chan struct{})}
	w.looks = l.waiters.Len() == 0 || w.since.Sub(l.offered) > newsLost
	w.place = l.waiters.PushBack(w)
	if in.Mark != "" {
		w.markPos = len(ro.marks[in.Mark])
		ro.marks[in.Mark] = append(ro.marks[in.Mark], w)
	}
	return w, nil
}

// quit takes a waiter out of its line, who is told that he has no lock, or is not told. False: it is not in line any more, what was
// decided stands.
func (ro *room) quit(w *waiter, told bool) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if w.place == nil {
		return false
	}
	w.finds = !told && w.in.Mark != ""
	ro.unline(w)
	ro.tidy(w.line)
	return true
}

// expire tells whether a waiter whose time is up has to wait for the end of the offer that is being made to the head of its line, which
// it is: it will be done then. What it would be told otherwise, that somebody holds the name, could be of the very lock that is being
// made for it: it would take that for its own, while it is deleted since nobody has it.
func (ro *room) expire(w *waiter) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if w.place != nil && w.line.offering && w.line.head() == w {
		w.late = true
	}
	return w.late
}

// forget ends a waiter and tells whether it was called off, even after it was granted a lock.
func (ro *room) forget(w *waiter) (calledOff bool) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if w.markPos >= 0 && w.in.Mark != "" {
		same := ro.marks[w.in.Mark]
		last := len(same) - 1
		same[w.markPos] = same[last]
		same[w.markPos].markPos = w.markPos
		same[last] = nil
		if last == 0 {
			delete(ro.marks, w.in.Mark)
		} else {
			ro.marks[w.in.Mark] = same[:last]
		}
		w.markPos = -1
	}
	return w.off
}

// callOff refuses all with that mark that are in line, notes it for those that have just been granted a lock, and
// remembers the mark for as long as keep.
func (ro *room) callOff(mark string, keep time.Duration) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	now := time.Now()
	ro.off.add(mark, now, now.Add(keep))
	for _, w := range ro.marks[mark] {
		w.off = true
		if w.place != nil {
			ro.decide(w, Lock{}, ErrCalledOff)
			ro.tidy(w.line)
		}
	}
}

// offer begins to offer a name and answers the head of its line; nil where there is none, or where somebody else is offering
// already: he then tries once more. Who gets a waiter creates its lock, calls accept or refuse,
// then next, and so on until there is none.
func (ro *room) offer(name string) *waiter {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	l := ro.lines[name]
	switch {
	case l == nil:
		return nil
	case l.offering:
		l.again = true
		return nil
	}
	return l.offer()
}

// offerHeldBy begins to offer the name that the lock with that id holds, which is about to be deleted, just as offer does.
// Nil also where it is not known that the lock holds the name of a line: then it has to be deleted first.
func (ro *room) offerHeldBy(id string) *waiter {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	l := ro.held[id]
	if l == nil || l.offering || l.waiters.Len() == 0 {
		return nil
	}
	return l.offer()
}

// heldBy notes that the lock with that id holds the name of the line, which is being offered.
func (ro *room) heldBy(l *line, id string) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	ro.setHolder(l, id)
}

func (ro *room) setHolder(l *line, id string) {
	delete(ro.held, l.holder)
	l.holder = id
	if id != "" {
		ro.held[id] = l
	}
}

// doubt notes that the lock of a waiter may have been made, or may yet. The next one has another id: what comes about late must not be
// taken for what the caller was told of by then, and may have deleted. False: it has left meanwhile, the lock is nobody's.
func (ro *room) doubt(w *waiter) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if w.place == nil {
		return w.finds
	}
	w.doubts = append(w.doubts, w.in.ID)
	w.in.ID = newID()
	return true
}

// accept gives the waiter the lock made for it. False: it has left meanwhile, and the lock is nobody's.
func (ro *room) accept(w *waiter, lock Lock) bool {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if w.place == nil && !w.finds {
		return false
	}
	if w.place != nil {
		ro.decide(w, lock, nil)
	}
	ro.setHolder(w.line, lock.ID)
	return true
}

// refuse has the waiter end with err, if it is still in line.
func (ro *room) refuse(w *waiter, err error) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	if w.place != nil {
		ro.decide(w, Lock{}, err)
	}
}

// refuseAll has the whole line end with err.
func (ro *room) refuseAll(l *line, err error) {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	for w := l.head(); w != nil; w = l.head() {
		ro.decide(w, Lock{}, err)
	}
}

// next goes on offering after w was tried: to the head of the line when the name may be free. Nil ends the offer.
func (ro *room) next(w *waiter, free bool) *waiter {
	ro.mu.Lock()
	defer ro.mu.Unlock()
	l := w.line
	for head := l.head(); head != nil && head.late; head = l.head() {
		ro.decide(head, Lock{}, errLate)
	}
	if free || l.again {
		l.again = false
		if head := l.head(); head != nil {
			return head
		}
	}
	l.offering = false
	ro.tidy(l)
	return nil
}

func (ro *room) decide(w *waiter, lock Lock, err error) {
	w.lock, w.err = lock, err
	ro.unline(w)
	close(w.done)
}

func (ro *room) unline(w *waiter) {
	w.line.waiters.Remove(w.place)
	w.place = nil
	ro.total--
}

func (ro *room) tidy(l *line) {
	if l.waiters.Len() == 0 && !l.offering {
		delete(ro.lines, l.name)
		delete(ro.held, l.holder)
	}
}

func (l *line) offer() *waiter {
	l.offering, l.offered = true, time.Now()
	return l.head()
}

func (l *line) head() *waiter {
	if front := l.waiters.Front(); front != nil {
		return front.Value.(*waiter)
	}
	return nil
}

package modelcheck_test

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// moment is when something happened: in virtual time, and in one order over all goroutines.
type moment struct {
	seq int64
	at  time.Duration // since the run began
}

// never is after everything.
var never = moment{seq: 1 << 62, at: 1 << 62}

func (m moment) before(n moment) bool { return m.seq < n.seq }

// record is all that happened in a run.
type record struct {
	mu    sync.Mutex
	start time.Time
	seq   int64
	lines []line

	locks     map[string]*lockRecord // by id
	order     []*lockRecord          // as they came to be
	cancelled []cancellation
	forcing   string   // the name of a lock that the plan is about to delete
	forced    string   // the id of the lock that it has deleted; "?": none yet; "": it deletes none
	losses    []moment // of all locks at once

	sessions []*session
	tries    []*try
	overlaps []overlap
	told     map[string]int // how often WithOnLost's function was told, by the lock's id
	troubles []*trouble
	exchange []*exchange
	closes   []*closing

	violations []string
}

type line struct {
	moment
	who, text string
}

func newRecord() *record {
	return &record{start: time.Now(), locks: make(map[string]*lockRecord),
		told: make(map[string]int)}
}

// now returns the present moment, which is unique. The caller holds r.mu.
func (r *record) now() moment {
	r.seq++
	return moment{r.seq, time.Since(r.start)}
}

// note adds a line to the history and returns its moment.
func (r *record) note(who, format string, args ...any) moment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noteLocked(who, format, args...)
}

func (r *record) noteLocked(who, format string, args ...any) moment {
	m := r.now()
	r.lines = append(r.lines, line{m, who, fmt.Sprintf(format, args...)})
	return m
}

// wrong records a violation.
func (r *record) wrong(format string, args ...any) {
	r.violations = append(r.violations, fmt.Sprintf(format, args...))
}

// history returns all lines, for a message.
func (r *record) history() string {
	var b strings.Builder
	for _, l := range r.lines {
		fmt.Fprintf(&b, "%6d %14.6fs  %-12s %s\n", l.seq, l.at.Seconds(), l.who, l.text)
	}
	return b.String()
}

// session is one lock of a tenure.
type session struct {
	*tenure
	who    string
	client int
	raw    bool // made and released by the API alone: there is no context
	mutex  any
	choice choice
	name   string
	id     string
	mark   string
	ttl    time.Duration
	token  uint64
	shared bool // the mutex hands locks on

	call, begin moment // of Lock
	err         error  // of Unlock, as far as it is about this lock
}

// tenure is the time from a Lock to the result of its Unlock. That of a MultiMutex has several
// sessions.
type tenure struct {
	live      func() bool // the contexts are not done
	deadlines []deadline

	parentEnd    moment
	guardedEnd   moment // of the context that Lock returned
	guardedCause error
	end          moment // of the session's context
	cause        error
	unlock       moment // called
	unlocked     moment // returned
	parentCause  error
}

// try is one call of Lock or TryLock.
type try struct {
	who       string
	client    int
	mutex     any
	choice    choice
	names     []string
	try       bool
	limit     time.Duration
	call, ret moment
	ctxEnd    moment // of the caller's context
	err       error
	session   *session // the first one
}

// overlap is a session that began while another was live.
type overlap struct {
	earlier, later *session
	at             moment
}

// trouble is a fault as it happened.
type trouble struct {
	fault
	from, to moment
}

// closing is a Client.Close.
type closing struct {
	client    int
	patience  time.Duration
	call, ret moment
	err       error
}

// deadline is the end of a lease as its session reported it.
type deadline struct {
	moment
	end time.Duration
}

package relukko

import (
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const (
	reportAfter = 250 * time.Millisecond // a shorter wait is nothing to tell
	logEvery    = time.Minute
)

// report knows, as far as anybody does, whom one Lock waits for, tells
// WithOnWait's function, and logs each minute.
type report struct {
	name  string
	tell  func(Waiting) // may be nil
	since time.Time
	log   *slog.Logger

	mu      sync.Mutex
	holder  *api.Lock
	due     bool   // the wait has lasted long enough, and is not over
	over    bool   // the wait is over
	told    bool   // tell was called
	toldID  string // with this lock's id
	telling bool   // a goroutine calls tell
	start   *time.Timer
	nag     *time.Timer
}

// holderIs notes the holder, which nobody changes from now on; nil changes
// nothing.
func (r *report) holderIs(lock *api.Lock) {
	if lock == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holder = lock
	r.tellLocked()
}

// forget makes the holder unknown.
func (r *report) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holder = nil
}

// known returns the holder as last noted, the caller's own, or nil.
func (r *report) known() *api.Lock {
	r.mu.Lock()
	defer r.mu.Unlock()
	return copied(r.holder)
}

func copied(lock *api.Lock) *api.Lock {
	if lock == nil {
		return nil
	}
	own := *lock
	return &own
}

// beginIn has the holder told from then on, at the latest.
func (r *report) beginIn(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over && r.start == nil {
		r.start = time.AfterFunc(d, r.begin)
	}
}

// begin has the holder told from now on.
func (r *report) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.due {
		return
	}
	r.due = true
	r.nag = time.AfterFunc(logEvery, r.logWait)
	r.tellLocked()
}

func (r *report) logWait() {
	r.mu.Lock()
	over, holder := r.over, r.holder
	if !over {
		r.nag.Reset(logEvery)
	}
	r.mu.Unlock()
	if !over {
		r.log.Info("still waiting for a lock", "lock", r.name, "holder", heldBy(holder))
	}
}

// end has nothing told from now on.
func (r *report) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due, r.over = false, true
	for _, timer := range []*time.Timer{r.start, r.nag} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// tellLocked starts the goroutine that tells unless there is nothing to tell or
// it is at it. The caller holds r.mu.
func (r *report) tellLocked() {
	if r.tell == nil || r.telling || !r.news() {
		return
	}
	r.telling = true
	go func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for r.news() {
			holder := r.holder
			r.told, r.toldID = true, idOf(holder)
			r.mu.Unlock()
			r.tell(Waiting{Holder: copied(holder), Ahead: -1, Since: r.since})
			r.mu.Lock()
		}
		r.telling = false
	}()
}

func (r *report) news() bool {
	return r.due && (!r.told || r.toldID != idOf(r.holder))
}

func idOf(lock *api.Lock) string {
	if lock == nil {
		return ""
	}
	return lock.ID
}

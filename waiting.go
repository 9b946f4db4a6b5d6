package relukko

import (
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

const (
	reportAfter = 250 * time.Millisecond // a shorter wait is not worth a report
	holderTime  = time.Second            // then the holder is reported as unknown
	logEvery    = time.Minute
)

// report calls the function of WithOnWait with the lock that a Lock waits for, and logs that lock
// each minute. The caller must call end.
type report struct {
	name  string
	all   bool // the locks of a MultiMutex
	since time.Time
	tell  func(Waiting) // may be nil
	log   *slog.Logger

	mu      sync.Mutex
	holder  *api.Lock
	ahead   int         // waiters that are served first; -1: unknown
	due     bool        // the wait has lasted long enough to be reported
	over    bool        // the wait is over
	told    reported    // with which tell was last called
	telling bool        // a goroutine calls tell
	asked   bool        // holderTime has begun
	timer   *time.Timer // sets due
	logs    *time.Timer // logs the wait
}

// begin starts the timer that makes the wait due to be reported.
func (r *report) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil && !r.over {
		r.timer = time.AfterFunc(reportAfter-time.Since(r.since), r.isDue)
	}
}

// isDue reports the wait. If the holder is not known it gives the driver another holderTime to find
// out.
func (r *report) isDue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.due {
		return
	}
	if r.holder == nil && !r.asked {
		r.asked = true
		r.timer.Reset(holderTime)
		return
	}
	r.setDue()
}

func (r *report) setDue() {
	r.due = true
	r.logs = time.AfterFunc(logEvery, r.logWait)
	r.tellChange()
}

// forget makes the holder unknown.
func (r *report) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holder = nil
}

// holderIs records the lock that holds the name, where nil changes nothing, and the number of
// waiters that are served first, which is -1 if it is unknown.
func (r *report) holderIs(lock *api.Lock, ahead int) {
	if lock == nil && ahead < 0 {
		return
	}
	r.begin()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.all && lock != nil && r.holder != nil && lock.Name != r.holder.Name &&
		ahead >= r.ahead {
		return // another member of a Pool, where no fewer are ahead
	}
	r.ahead = ahead
	if lock != nil {
		r.holder = acquire.Copied(lock)
	}
	if r.asked && !r.due && !r.over {
		r.setDue()
		return
	}
	r.tellChange()
}

func (r *report) logWait() {
	r.mu.Lock()
	over, holder := r.over, r.holder
	if !over {
		r.logs.Reset(logEvery)
	}
	r.mu.Unlock()
	if !over {
		r.log.Info("still waiting for a lock", "lock", r.name, "holder", heldBy(holder))
	}
}

// end stops the reports. A call of tell that has begun goes on.
func (r *report) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due, r.over = false, true
	for _, timer := range []*time.Timer{r.timer, r.logs} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// tellChange starts a goroutine that calls tell, unless nothing has changed or one runs. The caller
// holds r.mu.
func (r *report) tellChange() {
	if r.tell == nil || r.telling || !r.changed() {
		return
	}
	r.telling = true
	go func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for r.changed() {
			w := Waiting{Holder: acquire.Copied(r.holder), Ahead: r.ahead, Since: r.since}
			r.told = r.now()
			r.mu.Unlock()
			r.tell(w)
			r.mu.Lock()
		}
		r.telling = false
	}()
}

func (r *report) changed() bool {
	return r.due && r.told != r.now()
}

// reported is what a wait is reported again for when it changes.
type reported struct {
	any      bool // false: nothing was reported
	holderID string
	ahead    int
}

// now returns what a report would say.
func (r *report) now() reported {
	now := reported{any: true, ahead: r.ahead}
	if r.holder != nil {
		now.holderID = r.holder.ID
	}
	return now
}

package relukko

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
)

// WithHandoff sets that Unlock hands the held lock over to the next goroutine
// that queues on the same Mutex, instead of releasing it for that one to acquire
// it again. Where many goroutines of one process share a Mutex, that is faster
// by orders of magnitude. The default is to go to the backend each time.
//
// Each goroutine still has a session and guarded contexts of its own, which are
// done at its Unlock; underneath, the heartbeat goes on. An acquired lock is
// handed over for at most 100 ms and at most 10,000 times; the next Unlock after
// that releases it, so that other processes are not kept out. Two things change:
//
//   - nil from an Unlock that hands the lock over means that the lease has not
//     ended and that no deletion was heard of; the backend was not asked. So a
//     Lock that takes it over can return a lock that somebody has just deleted;
//     its context ends as soon as that is heard.
//   - To the backend it is one lock: all sections that share it have the same ID
//     and fencing token, and the creator of the first one.
//
// When the lock is lost the contexts of the goroutine that is inside end, and
// the next one acquires afresh.
func WithHandoff() Option { return func(o *options) { o.handoff = true } }

// turn lets the goroutines of this process that share a mutex in one by one,
// first come, first served. The one that has it may ask the backend, and keeps it
// from Lock to Unlock.
type turn struct {
	sem *semaphore.Weighted

	mu      sync.Mutex
	waiting map[*report]struct{} // of those who wait for the turn
	holder  *api.Lock            // who holds the name, as far as is known
	inside  *lease               // between Lock and Unlock
	left    *lease               // handed over, until the next goroutine takes it
}

func (t *turn) init() {
	t.sem = semaphore.NewWeighted(1)
	t.waiting = make(map[*report]struct{})
}

// take waits for the turn where wait is set, and reports whether it has it.
func (t *turn) take(ctx context.Context, r *report, wait bool) bool {
	if ctx.Err() != nil {
		return false
	}
	if t.sem.TryAcquire(1) {
		return true
	}
	if !wait {
		return false
	}
	t.mu.Lock()
	t.waiting[r] = struct{}{}
	holder := t.holder
	t.mu.Unlock()
	r.begin()
	r.holderIs(holder)
	err := t.sem.Acquire(ctx, 1)
	t.mu.Lock()
	delete(t.waiting, r)
	t.mu.Unlock()
	if err != nil {
		t.clearUp()
		return false
	}
	r.forget()
	return true
}

// holderIs records which lock those who wait for the turn wait for.
func (t *turn) holderIs(lock *api.Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holder = lock
	for r := range t.waiting {
		r.holderIs(lock)
	}
}

// enter records the lease that the goroutine that has the turn is inside.
func (t *turn) enter(l *lease) {
	lock := l.info()
	t.holderIs(&lock)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inside = l
}

// leave gives the turn to the next goroutine.
func (t *turn) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holder, t.inside = nil, nil
	t.sem.Release(1)
}

// locked returns the error for a goroutine that does not get the turn.
func (t *turn) locked(name string) *LockedError {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &LockedError{Name: name, Holder: copied(t.holder)}
	if t.inside != nil {
		if lost, ok := errors.AsType[*LostError](t.inside.state()); ok {
			e.Holder, e.Lost = nil, lost
		}
	}
	return e
}

// wanted reports whether a goroutine waits for the turn.
func (t *turn) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) > 0
}

// handOver gives the turn, and a lease that its session has left, to the next
// goroutine.
func (t *turn) handOver(l *lease) {
	t.mu.Lock()
	t.inside, t.left = nil, l
	t.sem.Release(1)
	t.mu.Unlock()
	t.clearUp()
}

// takeOver returns the lease that was handed over, or nil.
func (t *turn) takeOver() *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.left
	t.left = nil
	return l
}

// clearUp releases, in the background, a lease that was handed over to nobody,
// because the goroutine that was to take it gave up.
func (t *turn) clearUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == nil || !t.sem.TryAcquire(1) {
		return // the goroutine that has the turn takes it over
	}
	l := t.left
	t.left = nil
	go func() {
		defer t.leave()
		if err := l.release(l.grant.Values); err != nil {
			l.log.Warn("lock not released in good order", "lock", l.name, "error", err)
		}
	}()
}

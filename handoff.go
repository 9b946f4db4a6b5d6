package relukko

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// WithHandoff lets Unlock hand the held lock off to the next goroutine that waits for the same
// Mutex, instead of releasing it for that goroutine to acquire again. Where many goroutines of one
// process share a Mutex, this is faster by orders of magnitude. By default every Unlock releases
// the lock.
//
// Each goroutine still has its own session and guarded context, which end at its Unlock; the
// heartbeat goes on. A lock is handed off for at most 100 ms after it was acquired, and at most
// 10,000 times. The next Unlock releases it, so that other processes are not kept out. Two things
// change:
//
//   - nil from an Unlock that hands the lock off means that the lease has not ended and that no
//     deletion was heard of. The backend is not asked. So the next Lock can return a lock that
//     another client has just deleted; its context ends as soon as the deletion is known.
//   - To the backend it is one lock: all sessions that share it have the same ID, the same fencing
//     token and the creator of the first.
//
// When the lock is lost, the contexts of the goroutine inside end, and the next goroutine acquires
// the lock anew. With WithHandoff every Lock of a [Pool] or a [MultiMutex] fails.
func WithHandoff() Option { return func(o *options) { o.handoff = true } }

// turn is the local turn: it lets the goroutines that share a Mutex in one at a time, first come,
// first served. A goroutine has it from Lock to the end of Unlock. Only that goroutine uses the
// driver.
type turn struct {
	sem *semaphore.Weighted

	mu      sync.Mutex
	waiting map[*report]struct{} // of the goroutines that wait for the turn
	holder  *api.Lock            // the lock that holds the name; nil if unknown
	inside  *Session             // of the goroutine between Lock and Unlock
	left    *lease               // handed off, until the next goroutine takes it over
}

func (t *turn) init() {
	t.sem = semaphore.NewWeighted(1)
	t.waiting = make(map[*report]struct{})
}

// tryTake reports whether the caller has got the turn. It does not block.
func (t *turn) tryTake(ctx context.Context) bool {
	return ctx.Err() == nil && t.sem.TryAcquire(1)
}

// take waits for the turn, and reports whether the caller has got it; false: ctx ended first.
func (t *turn) take(ctx context.Context, r *report) bool {
	if ctx.Err() != nil {
		return false
	}
	t.mu.Lock()
	t.waiting[r] = struct{}{}
	holder, inside := t.holder, t.inside
	t.mu.Unlock()
	if inside != nil {
		inside.want()
	}
	r.begin()
	r.holderIs(holder, -1)
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

// holderIs records the lock that holds the name. If that is another one than before, it reports it
// to the goroutines that wait: a lock that is handed off must not cost each of them. nil changes
// nothing.
func (t *turn) holderIs(lock *api.Lock) {
	if lock == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	same := t.holder != nil && t.holder.ID == lock.ID
	t.holder = lock
	if same {
		return
	}
	for r := range t.waiting {
		r.holderIs(lock, -1)
	}
}

// enter records the session of the goroutine that has the turn.
func (t *turn) enter(s *Session) {
	lock := s.Info()
	t.holderIs(&lock)
	t.mu.Lock()
	t.inside = s
	wanted := len(t.waiting) > 0
	t.mu.Unlock()
	if wanted {
		s.want()
	}
}

// leave passes the turn to the next goroutine.
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
	e := &LockedError{Name: name, Holder: acquire.Copied(t.holder)}
	if t.inside != nil {
		if lost, ok := errors.AsType[*LostError](t.inside.leases.state()); ok {
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

// handOver passes the turn and a lease without a session to the next goroutine.
func (t *turn) handOver(l *lease) {
	t.mu.Lock()
	t.inside, t.left = nil, l
	t.sem.Release(1)
	t.mu.Unlock()
	t.clearUp()
}

// takeOver returns the lease that was handed off, or nil. The caller has the turn.
func (t *turn) takeOver() *lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.left
	t.left = nil
	return l
}

// clearUp releases, in the background, a lease that was handed off but that no goroutine takes
// over, because the goroutine that waited has given up.
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
		l.releaseUnused()
	}()
}

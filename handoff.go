package relukko

import (
	"context"
	"time"
)

const (
	maxHandoff  = 100 * time.Millisecond // from one acquisition, then others get their turn
	maxHandoffs = 10_000
)

// WithHandoff has Unlock hand the held lock on to the next goroutine that
// queues on the same Mutex, instead of releasing it for that one to acquire it
// again. Where many goroutines of one process share a Mutex, that is faster by
// orders of magnitude. The default is to go to the backend each time.
//
// Each goroutine still has a session and guarded contexts of its own, which are
// done at its Unlock; underneath, the heartbeat goes on. An acquired lock is
// handed on for at most 100 ms and at most 10,000 times; the next Unlock after
// that releases it, so that other processes are not kept out. Two things change:
//
//   - nil from an Unlock that hands the lock on means that the lease has not
//     ended and no deletion was heard of; nobody asked the backend.
//     So a Lock that takes it over can return a lock that somebody has just
//     deleted; its context ends as soon as that is heard.
//   - To the backend it is one lock: all sections that share it have the same ID
//     and fencing token, and the creator of the first one.
//
// When the lock is lost the contexts of the goroutine that is inside end, and
// the next one acquires afresh.
func WithHandoff() Option { return func(o *options) { o.handoff = true } }

// handOn ends a session of which Unlock has taken the mutex, and leaves its
// lease to the next goroutine that queues here. It returns false, and has done
// nothing, where nobody queues or the lock is due to be released.
func (m *Mutex) handOn(s *Session) bool {
	l := s.lease
	m.mu.Lock()
	queued := len(m.waiting) > 0
	m.mu.Unlock()
	if !queued || !l.leave(s) {
		return false
	}
	s.finish(ErrUnlocked)
	m.mu.Lock()
	m.left = l
	m.turn.Release(1)
	m.mu.Unlock()
	m.clearUp()
	return true
}

// takeOver gives the lease that was handed on, if there is one that is not
// over, to the goroutine that has the turn.
func (m *Mutex) takeOver(parent context.Context) *Session {
	m.mu.Lock()
	l := m.left
	m.left = nil
	m.mu.Unlock()
	if l == nil {
		return nil
	}
	s := newSession(parent, l)
	l.expire()
	if loss := l.enter(s); loss != nil {
		s.finish(loss)
		l.giveBack(parent, loss)
		return nil
	}
	return m.inside(s)
}

// clearUp releases, behind, a lease that was handed on to nobody, because who
// was to have it gave up. To be called by whoever leaves a lease, or the queue.
func (m *Mutex) clearUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == nil || !m.turn.TryAcquire(1) {
		return // who has the turn takes it over
	}
	l := m.left
	m.left = nil
	go func() {
		defer m.leaveTurn()
		if err := l.release(l.grant.Values); err != nil {
			m.log.Warn("lock not released in good order", "lock", m.name, "error", err)
		}
	}()
}

// leave ends s's part in the lease, unless the lease is over or due to be
// released.
func (l *lease) leave(s *Session) bool {
	l.expire()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.handoffs >= maxHandoffs || time.Since(l.began) >= maxHandoff {
		return false
	}
	l.handoffs++
	l.session = nil
	return true
}

// enter makes s the session of a lease that was left, or returns why the lease
// is over.
func (l *lease) enter(s *Session) (loss error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.session = s
	}
	return l.err
}

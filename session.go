package relukko

import (
	"context"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// Session is one tenure of a lock, from Lock to Unlock or to the loss of the
// lock. It ends exactly once, by one of the two.
type Session struct {
	lease *lease
	owner owner

	parent     context.Context
	guarded    context.Context // what Lock returns: also ends with the parent
	endGuarded context.CancelCauseFunc

	mu         sync.Mutex
	cleanup    context.Context // made when it is first asked for
	endCleanup context.CancelCauseFunc
	err        error // why the contexts are done
}

// owner is what a session belongs to: a mutex.
type owner interface {
	Unlock(held context.Context) error
}

func newSession(parent context.Context, o owner, l *lease) *Session {
	s := &Session{lease: l, owner: o, parent: parent}
	s.guarded, s.endGuarded = context.WithCancelCause(sessionContext{parent, s})
	return s
}

// FromContext returns the session that guards ctx, the innermost where several
// locks are nested, so that a driver of a device can insist on being guarded.
// The session may be over: its Err tells.
func FromContext(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(sessionKey{}).(*Session)
	return s, ok
}

type sessionKey struct{}

// sessionContext returns the innermost session for sessionKey, and that of a
// mutex, however deep, for the mutex itself as the key.
type sessionContext struct {
	context.Context
	s *Session
}

func (c sessionContext) Value(key any) any {
	if key == (sessionKey{}) || key == any(c.s.owner) {
		return c.s
	}
	return c.Context.Value(key)
}

// Name returns the name of the mutex that was locked.
func (s *Session) Name() string { return s.lease.name }

// Info returns the lock as the backend last acknowledged it. Its FencingToken
// is 0 where the backend has none. In trust mode it is the made-up lock that
// [api.New] describes, whose name is not that of the mutex.
func (s *Session) Info() api.Lock { return s.lease.info() }

// LeaseEnd returns the end of the lease as it is counted here, from before the
// last acknowledged acquire or renewal was sent; each heartbeat moves it. The
// contexts end a tenth of the TTL earlier. In trust mode there is no lease, and
// it is the zero time.
func (s *Session) LeaseEnd() time.Time {
	s.lease.mu.Lock()
	defer s.lease.mu.Unlock()
	return s.lease.end().Time()
}

// CleanupContext returns a context for cleaning up inside the critical section
// after the parent was cancelled: it has the values of the context that Lock was
// called with, and is done only when the lock is lost or unlocked, with the same
// cause as the guarded context.
func (s *Session) CleanupContext() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cleanup == nil {
		parent := sessionContext{context.WithoutCancel(s.parent), s}
		s.cleanup, s.endCleanup = context.WithCancelCause(parent)
		if s.err != nil {
			s.endCleanup(s.err)
		}
	}
	return s.cleanup
}

// Done returns a channel that is closed when the session ends.
func (s *Session) Done() <-chan struct{} { return s.CleanupContext().Done() }

// Err returns nil while the lock is held, and then [ErrUnlocked] or a
// [*LostError]. It reads the clocks, also the wall clock: after a suspend it
// reports that the lease is over before any timer has fired.
func (s *Session) Err() error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.lease.expire()
	return s.lease.state()
}

// Unlock is [Mutex.Unlock] for this session.
func (s *Session) Unlock() error { return s.owner.Unlock(s.guarded) }

// finish ends the contexts, the guarded one last: once that is done, the other
// one is done too.
func (s *Session) finish(cause error) {
	s.mu.Lock()
	s.err = cause
	if s.endCleanup != nil {
		s.endCleanup(cause)
	}
	s.mu.Unlock()
	s.endGuarded(cause)
}

// parentEnded reports whether the context that Lock was called with is done.
func (s *Session) parentEnded() bool { return s.parent.Err() != nil }

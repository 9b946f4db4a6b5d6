package relukko

import (
	"context"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// Session is one stay inside a lock, from Lock to Unlock or to its loss. It
// ends exactly once, by one of the two.
type Session struct {
	lease *lease

	parent     context.Context
	guarded    context.Context // what Lock returns: the parent's end, too
	endGuarded context.CancelCauseFunc

	mu  sync.Mutex
	ctx context.Context // loss and unlock only; made when it is first asked for
	end context.CancelCauseFunc
	err error // why the contexts are done
}

func newSession(parent context.Context, l *lease) *Session {
	s := &Session{lease: l, parent: parent}
	s.guarded, s.endGuarded = context.WithCancelCause(guardedContext{parent, s})
	return s
}

// done ends the contexts, the guarded one last: who sees that one done finds
// the other done too.
func (s *Session) done(cause error) {
	s.mu.Lock()
	s.err = cause
	if s.end != nil {
		s.end(cause)
	}
	s.mu.Unlock()
	s.endGuarded(cause)
}

// FromContext returns the session that guards ctx, the innermost where several
// locks are nested, so that a driver can insist on being guarded. The session
// may be over: its Err tells.
func FromContext(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(sessionKey{}).(*Session)
	return s, ok
}

// Name returns the name of the mutex that was locked.
func (s *Session) Name() string { return s.lease.m.name }

// Info returns the lock as the backend last acknowledged it. In particular its
// FencingToken is 0 where the backend has none. In trust mode it is the made-up
// lock that [api.New] tells of, whose name is not that of the mutex.
func (s *Session) Info() api.Lock { return s.lease.info() }

// CleanupContext carries the values of the context that Lock was called with and is
// done only on loss or unlock, with the same cause as the guarded context. It
// is for cleanup inside the critical section after the parent was cancelled.
func (s *Session) CleanupContext() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		s.ctx, s.end = context.WithCancelCause(guardedContext{context.WithoutCancel(s.parent), s})
		if s.err != nil {
			s.end(s.err)
		}
	}
	return s.ctx
}

// LeaseEnd returns the end of the lease as it is counted here, from before the
// last acknowledged acquire or renewal was sent; it moves with every heartbeat.
// The contexts end a tenth of the TTL earlier. It is the zero time in trust
// mode (RELUKKO_TRUST_ME_IT_IS_LOCKED), where there is no lease.
func (s *Session) LeaseEnd() time.Time { return s.lease.end() }

// Done is closed when the session ends, by loss or unlock.
func (s *Session) Done() <-chan struct{} { return s.CleanupContext().Done() }

// Err returns nil while the lock is held, then [ErrUnlocked] or a [*LostError].
// It looks at the clocks itself, also at the wall clock: after a suspend it
// knows that the lease is over before any timer has fired.
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

type sessionKey struct{}

// guardedContext answers for FromContext (the innermost session) and, by the
// Mutex itself as the key, for Unlock (that mutex's session, however deep).
type guardedContext struct {
	context.Context
	s *Session
}

func (c guardedContext) Value(key any) any {
	switch key := key.(type) {
	case sessionKey:
		return c.s
	case *Mutex:
		if key == c.s.lease.m {
			return c.s
		}
	}
	return c.Context.Value(key)
}

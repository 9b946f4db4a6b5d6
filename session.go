package relukko

import (
	"context"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// Session is one tenure of a lock: it begins when Lock returns, and ends once, at Unlock or when
// the lock is lost. Get it with [FromContext] or [Mutex.FromContext]; the zero Session is not
// usable. A Session is safe for concurrent use.
type Session struct {
	leases leases
	owner  owner

	parent     context.Context
	guarded    context.Context // what Lock returns: also ends with the parent
	endGuarded context.CancelCauseFunc

	mu         sync.Mutex
	cleanup    context.Context // nil before the first CleanupContext
	endCleanup context.CancelCauseFunc
	err        error         // the cause of both contexts; nil while they are not done
	isWanted   bool          // somebody has waited for the lock
	wanted     chan struct{} // nil before the first Wanted
	tooLong    *time.Timer   // ends the guarded context; nil: WithMaxHold is not set
}

// owner is what a session belongs to: a Mutex, also that of a MultiMutex, or a Pool.
type owner interface {
	Lock(ctx context.Context) (held context.Context, err error)
	Unlock(held context.Context) error
}

// newSession returns the session of what was granted just now.
func newSession(parent context.Context, o owner, leases ...*lease) *Session {
	s := &Session{leases: leases, owner: o, parent: parent}
	s.guarded, s.endGuarded = context.WithCancelCause(sessionContext{parent, s})
	if d := leases[0].maxHold; d > 0 {
		s.tooLong = time.AfterFunc(d, func() { s.endGuarded(ErrHeldTooLong) })
	}
	return s
}

// FromContext returns the session that ctx belongs to, the innermost one where several locks are
// nested, and reports whether there is one. A device driver can use it to refuse work without a
// lock. The session may have ended; see [Session.Err].
func FromContext(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(sessionKey{}).(*Session)
	return s, ok
}

type sessionKey struct{}

// sessionContext holds a session under two keys: sessionKey, which finds the innermost session, and
// the owner, which finds its own session however deeply others are nested.
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

// Name returns the name of the lock: that of the Mutex, or of the member of the Pool. For a
// MultiMutex it returns [MultiMutex.Name].
func (s *Session) Name() string { return s.leases.name() }

// Info returns the lock as the backend last acknowledged it, also after the session has ended. Its
// FencingToken is 0 if the backend has none. In trust mode Info returns the made-up lock that
// [api.New] describes, whose name is not that of the Mutex. For a MultiMutex it returns the lock of
// the first name.
func (s *Session) Info() api.Lock { return s.leases[0].info() }

// Locks returns what [Session.Info] returns, for a MultiMutex of each lock, in the order of the
// names that were given to [NewMultiMutex].
func (s *Session) Locks() []api.Lock { return s.leases.info() }

// LeaseEnd returns the end of the lease, on the local clock; for a MultiMutex of the one that ends
// first. The lease counts from before the last acknowledged acquire or renewal was sent, so each
// heartbeat moves its end. The contexts end earlier by a tenth of the lease, or of the TTL if that
// is shorter. In trust mode there is no lease, and LeaseEnd returns the zero time.
func (s *Session) LeaseEnd() time.Time { return s.leases.end() }

// CleanupContext returns a context for work that must be done inside the critical section even if
// the context given to Lock is cancelled. It has the values of that context, but is done only when
// the lock is lost or unlocked, with the same cause as the guarded context.
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

// Done returns a channel that is closed when the lock is lost or unlocked. The end of the context
// given to Lock does not close it.
func (s *Session) Done() <-chan struct{} { return s.CleanupContext().Done() }

// Err returns nil while the lock is held, also after the time of [WithMaxHold], then [ErrUnlocked]
// or a [*LostError]. It reads the monotonic and the wall clock, so after a suspend it reports a
// lost lease before any timer has fired.
func (s *Session) Err() error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.leases.expire()
	return s.leases.state()
}

// Wanted returns a channel that is closed once somebody waits for this lock: another client, or
// another goroutine that shares the Mutex. A holder that can stop early may then give way. The
// channel stays closed if the waiter gives up. Only our own backend, over the stream, says that
// other clients wait: immediately, or up to 2 s late if they are clients of another server on the
// same store.
func (s *Session) Wanted() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted == nil {
		s.wanted = make(chan struct{})
		if s.isWanted {
			close(s.wanted)
		}
	}
	return s.wanted
}

// want closes the channel of Wanted.
func (s *Session) want() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted != nil && !s.isWanted {
		close(s.wanted)
	}
	s.isWanted = true
}

// Unlock ends this session, as [Mutex.Unlock] does with the guarded context.
func (s *Session) Unlock() error { return s.owner.Unlock(s.guarded) }

// finish ends both contexts with cause, unless they have ended. The guarded one is last: once it is
// done, both are.
func (s *Session) finish(cause error) {
	s.mu.Lock()
	if s.err != nil {
		cause = s.err
	}
	s.err = cause
	if s.tooLong != nil {
		s.tooLong.Stop()
	}
	if s.endCleanup != nil {
		s.endCleanup(cause)
	}
	s.mu.Unlock()
	s.endGuarded(cause)
}

// guardEnded reports whether the guarded context is done.
func (s *Session) guardEnded() bool { return s.guarded.Err() != nil }

package relukko

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
)

// Session is one tenure of a lock, from Lock to Unlock or to the loss of the
// lock. It ends exactly once, by one of the two.
type Session struct {
	lease *lease

	parent     context.Context
	guarded    context.Context // what Lock returns: also ends with the parent
	endGuarded context.CancelCauseFunc

	mu         sync.Mutex
	cleanup    context.Context // made when it is first asked for
	endCleanup context.CancelCauseFunc
	err        error // why the contexts are done
}

func newSession(parent context.Context, l *lease) *Session {
	s := &Session{lease: l, parent: parent}
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

// FromContext returns the session of this mutex that guards ctx, however many
// other locks are nested inside it. The session may be over: its Err tells.
func (m *Mutex) FromContext(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(m).(*Session)
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

// Name returns the name of the mutex that was locked.
func (s *Session) Name() string { return s.lease.m.name }

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
		s.cleanup, s.endCleanup = context.WithCancelCause(sessionContext{context.WithoutCancel(s.parent), s})
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
func (s *Session) Unlock() error { return s.lease.m.Unlock(s.guarded) }

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

// lease is a lock that this process holds, and the time for which it may count
// on that. It can outlive a session, see [WithHandoff]. The counting and the
// heartbeat are in heartbeat.go.
type lease struct {
	m     *Mutex
	grant *acquire.Grant

	mu       sync.Mutex
	session  *Session  // nil while the lock is handed over
	lock     api.Lock  // as last acknowledged
	began    time.Time // when it was acquired
	handoffs int       // since then
	err      error     // nil while held
	lastErr  error     // of the renewals since the last acknowledged one

	length  time.Duration   // of the lease as last granted
	acked   clock.Instant   // when it ends, by the last acknowledged request
	sent    clock.Instant   // when that request was sent
	unacked []clock.Instant // when the renewals were sent that may yet take effect
	latest  time.Time       // when it ends, should the last of these have taken effect
	limit   clock.Instant   // the contexts end here at the latest; zero: no such limit

	expiry    *time.Timer     // ends the contexts, from the first heartbeat on
	beat      *time.Timer     // starts the next renewal; nil in trust mode
	ctx       context.Context // of the renewals, from the first heartbeat on
	cancel    context.CancelFunc
	unwatch   func()        // ends the watching for deletions and jumps of the clocks
	open      int           // renewals that have not been answered
	hinted    bool          // something may have happened to the lock since the last renewal was sent
	hintedAt  time.Time     // when the backend was last asked because of a hint, or will be
	orphaned  clock.Instant // when the parent was first seen to have ended
	warnAfter time.Duration // since then
}

// start makes a session of a lock that was granted.
func (l *lease) start(g *acquire.Grant, parent context.Context) *Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grant, l.lock, l.began, l.session = g, g.Lock, time.Now(), newSession(parent, l)
	if !l.m.client.Trusted() {
		l.length, l.sent, l.acked = g.Length, g.Since, g.Since.Add(g.Length)
		l.latest = l.acked.Time()
		l.beat = time.AfterFunc(min(firstHeartbeat, l.m.ttl/3, max(l.left(), 0)/3), l.renew)
	}
	return l.session
}

// expire ends the lease if its time is over on either clock.
func (l *lease) expire() {
	l.mu.Lock()
	if l.err != nil || l.beat == nil {
		l.mu.Unlock()
		return
	}
	if l.left() > 0 {
		if l.expiry != nil {
			l.arm()
		}
		l.mu.Unlock()
		return
	}
	err := l.lastErr
	if err == nil && l.open > 0 {
		err = fmt.Errorf("no answer for %v", l.m.driver.Clock().Now().Sub(l.unacked[0]).Round(time.Millisecond))
	}
	l.mu.Unlock()
	l.lose(LossUnreachable, err)
}

// lose ends a lease that is still held: first the contexts, then the rest.
func (l *lease) lose(reason LossReason, err error) {
	loss := l.loss(reason, err)
	if l.finish(loss) == nil {
		l.m.lost(loss)
		l.m.tasks.End(l)
	}
}

func (l *lease) loss(reason LossReason, err error) *LostError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &LostError{Name: l.m.name, ID: l.lock.ID, Reason: reason, Deadline: l.end().Time(), Err: err}
}

// stop ends the lease for Unlock. It returns the loss that has ended it before,
// if there was one.
func (l *lease) stop() error {
	l.expire()
	return l.finish(ErrUnlocked)
}

// finish makes cause the end of the lease, or returns what has ended it before.
// In either case the contexts are done when it returns.
func (l *lease) finish(cause error) (ended error) {
	l.mu.Lock()
	ended = l.err
	s, unwatch := l.session, l.unwatch
	if ended == nil {
		l.err = cause
		for _, timer := range []*time.Timer{l.beat, l.expiry} {
			if timer != nil {
				timer.Stop()
			}
		}
		if l.cancel != nil {
			l.cancel()
		}
	} else {
		cause = ended
	}
	l.mu.Unlock()
	if s != nil {
		s.finish(cause)
	}
	if unwatch != nil {
		unwatch()
	}
	return ended
}

func (l *lease) info() api.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lock
}

func (l *lease) state() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// latestEnd returns when the lease has ended for sure, whatever became of the
// renewals that were not acknowledged.
func (l *lease) latestEnd() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

// Describe and Abandon are for Client.Shutdown.
func (l *lease) Describe() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.grant == nil:
		return fmt.Sprintf("lock %q: a Lock that waits", l.m.name)
	case l.err != nil:
		return fmt.Sprintf("lock %q (%s): its release", l.m.name, l.lock.ID)
	}
	return fmt.Sprintf("lock %q (%s): held", l.m.name, l.lock.ID)
}

func (l *lease) Abandon() {
	if l.info().ID != "" {
		l.lose(LossUnreachable, api.ErrClosed)
	}
}

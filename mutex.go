package relukko

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// Mutex is a lock of one name on a Relukko backend. Among all processes and goroutines at most one
// holder is between Lock and Unlock at a time; the package documentation states the limits. Create
// a Mutex with [NewMutex]; Lock of the zero Mutex fails. A Mutex is safe for concurrent use.
//
// Like [sync.Mutex] it is not re-entrant: a goroutine that locks a Mutex it already holds blocks
// until its context ends.
type Mutex struct {
	target
	turn turn

	mu      sync.Mutex
	session *Session // of the lock that is held; nil: none is
}

// NewMutex returns a mutex for the lock called name: 1 to 255 bytes of UTF-8 without control
// characters. It sends no request and never fails. If client is nil, or the name or an option is
// invalid, every Lock returns an error that says so.
func NewMutex(client *api.Client, name string, opts ...Option) *Mutex {
	m := &Mutex{target: target{name: name}}
	m.target.init(client, opts)
	m.turn.init()
	return m
}

// Name returns the name of the lock.
func (m *Mutex) Name() string { return m.name }

// Lock blocks until the caller holds the lock. It may be called by any number of goroutines.
//
// On success the returned context, the guarded context, is derived from ctx. It is done as soon as
// ctx is done, the lock is lost or unlocked, or the time of [WithMaxHold] is over; [context.Cause]
// then returns the cause of ctx, a [*LostError], [ErrUnlocked] or [ErrHeldTooLong]. The end of ctx
// does not release the lock: it stays held, and its lease is renewed, until Unlock.
//
// On failure the returned context is already done, with err as its cause, and no lock is left on
// the backend: a lock that the call may have created is deleted in the background, as soon as the
// backend can be reached. [api.Client.Shutdown] waits for that. The error says who holds the lock,
// or what the backend last said. Lock fails if
//
//   - ctx is done. errors.Is then finds the error and the cause of ctx, and also [ErrLocked] if
//     another lock holds the name.
//   - the backend refuses the request. errors.As finds the [*api.Error], and errors.Is finds
//     [api.ErrRefused] for the statuses 400, 401 and 403.
//   - the response makes no sense, the backend's certificate does not verify, or something on the
//     way to the backend has refused for 10 s.
//   - the backend has not said for a minute who holds the lock; [WithBackOff] changes that.
//   - the client is closed, or closes meanwhile ([api.ErrClosed]).
//   - the client, the name or an option is invalid.
func (m *Mutex) Lock(ctx context.Context) (held context.Context, err error) {
	s, err := m.acquire(ctx, true, m.log)
	return result(ctx, s, err)
}

// TryLock is Lock, but does not wait for another holder: if the lock is held, in this process or
// elsewhere, it returns a [*LockedError]. While the backend cannot be reached it retries as Lock
// does; a deadline of ctx limits that.
//
// In a loop, keep the returned context apart from ctx: after a failure it is done.
//
//	held, err := m.TryLock(ctx)
func (m *Mutex) TryLock(ctx context.Context) (held context.Context, err error) {
	s, err := m.acquire(ctx, false, m.log)
	return result(ctx, s, err)
}

// acquire returns the session of a lock that it has acquired.
func (m *Mutex) acquire(ctx context.Context, wait bool, log *slog.Logger) (*Session, error) {
	s, err := m.begin(log, func(l *lease, r *report) (*Session, error) {
		return m.granted(ctx, l, wait, r)
	})
	if err != nil {
		return nil, err
	}
	m.turn.enter(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = s
	return s, nil
}

// granted waits for the local turn. Then it takes over the lease that the previous goroutine handed
// off, or else has the driver acquire the lock for the lease l. It returns the session of either.
func (m *Mutex) granted(ctx context.Context, l *lease, wait bool, r *report) (*Session, error) {
	if !m.turn.tryTake(ctx) {
		open, end := m.tasks.WhileOpen(ctx)
		defer end(nil)
		if !wait || !m.turn.take(open, r) {
			return nil, m.notInside(open, r.since)
		}
	}
	if left := m.turn.takeOver(); left != nil {
		s := newSession(ctx, m, left)
		loss := left.enter(s)
		if loss == nil {
			m.tasks.End(l)
			return s, nil
		}
		s.finish(loss)
		left.giveBack(ctx, loss)
	}
	s, err := m.request(ctx, m, l, m.ask(ctx, wait, r, func(holder *api.Lock, ahead int) {
		r.holderIs(holder, ahead)
		m.turn.holderIs(holder)
	}))
	if err != nil {
		m.turn.leave()
	}
	return s, err
}

// notInside returns the error for a call that did not get the local turn.
func (m *Mutex) notInside(ctx context.Context, since time.Time) error {
	locked := m.turn.locked(m.name)
	if ctx.Err() == nil {
		return locked // a TryLock
	}
	f := acquire.GaveUp(ctx, since)
	if locked.Holder == nil && locked.Lost == nil {
		return m.errorf(f.Errs, "%s", f.Text)
	}
	return m.errorf(append(f.Errs, locked), "%s; %s", f.Text, locked.who())
}

// Unlock releases the lock. It uses only the values of held, which may be done already. Whatever it
// returns, the contexts of the lock are done afterwards, and the next goroutine that shares the
// Mutex may lock it.
//
// If no Lock of this Mutex returned held or a parent of it, Unlock releases whatever lock the Mutex
// holds, as sync.Mutex does. That may be the lock of another goroutine.
//
//   - nil means that the lock was held without a gap since Lock, and is released now, or handed off
//     (see [WithHandoff]). If the response to a delete was lost, and the next delete finds the lock
//     gone, the lock counts as released by the first, although another client may have deleted it
//     just before.
//   - A [*LostError] means that the lock was lost before.
//   - A [*NotReleasedError] means that the lock was held as far as is known, but its release is not
//     confirmed: the backend did not respond within 10 s, the backend refused, or the client was
//     closed. Its field Until says for how long the release is retried in the background.
//   - [ErrNotLocked], found by errors.Is, means that nothing is held, or that held belongs to a
//     session of this Mutex that has ended. So a second Unlock never releases another goroutine's
//     lock.
func (m *Mutex) Unlock(held context.Context) error {
	m.mu.Lock()
	s := m.session
	if own, ok := m.FromContext(held); s == nil || ok && own != s {
		m.mu.Unlock()
		return m.errorf([]error{ErrNotLocked},
			"not held; call Unlock once for each Lock that succeeded")
	}
	m.session = nil
	m.mu.Unlock()
	if m.handoff && m.turn.wanted() && s.leases[0].leave() {
		s.finish(ErrUnlocked)
		m.turn.handOver(s.leases[0])
		return nil
	}
	defer m.turn.leave()
	return s.leases.release(held)
}

// Do locks the mutex, calls f with the guarded context, and unlocks, even if f panics or calls
// [runtime.Goexit]. If Lock fails, Do returns its error and does not call f. Otherwise it returns
// the error of f, joined with that of Unlock unless f has returned that already. So it reports a
// loss that f did not notice.
func (m *Mutex) Do(ctx context.Context, f func(context.Context) error) error {
	return do(ctx, m, f)
}

// FromContext returns the session of this Mutex that ctx belongs to, however many other locks are
// nested inside it, and reports whether there is one. The session may have ended; see
// [Session.Err].
func (m *Mutex) FromContext(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(m).(*Session)
	return s, ok
}

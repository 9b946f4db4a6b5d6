package relukko

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Mutex is a lock of one name on a Relukko backend. At most one holder at a
// time is inside it, over all processes and goroutines. Make one with
// [NewMutex], the zero Mutex is of no use; goroutines may share it.
//
// Like [sync.Mutex] it is not re-entrant: a goroutine that locks it twice waits
// until its context ends.
type Mutex struct {
	target
	turn turn

	mu      sync.Mutex
	session *Session // between Lock and Unlock
}

// NewMutex returns a mutex for the lock name (1 to 255 bytes of UTF-8 without
// control characters). It sends nothing and does not fail: with a client, a name
// or an option that cannot be used, every Lock returns an error that says so.
func NewMutex(client *api.Client, name string, opts ...Option) *Mutex {
	m := new(Mutex)
	m.target.init(client, name, opts)
	m.turn.init()
	return m
}

// Name returns the name of the lock.
func (m *Mutex) Name() string { return m.name }

// Lock blocks until the caller holds the lock or ctx is done.
//
// The context that it returns is derived from ctx and is done as soon as the
// lock is lost or unlocked; [context.Cause] then returns a [*LostError],
// [ErrUnlocked], or the cause of ctx. When ctx is done the lock stays held until
// Unlock.
//
// When err is non-nil the returned context is already cancelled, with err as
// its cause, and no lock is left on the backend as soon as it can be reached;
// [api.Client.Shutdown] waits for that. Lock fails when ctx is done, when the
// backend refuses (errors.Is finds [api.ErrRefused]) or answers nonsense, when
// for a minute it does not say who holds the lock ([WithBackOff] changes that),
// and when the client closes ([api.ErrClosed]). The error says who holds the
// lock, or what the backend last said: when ctx ends while somebody holds the
// lock, errors.Is finds [ErrLocked] beside the error and the cause of ctx.
func (m *Mutex) Lock(ctx context.Context) (held context.Context, err error) {
	return m.enter(ctx, true)
}

// TryLock is Lock without waiting for a holder: when the lock is held, here or
// elsewhere, it returns a [*LockedError]. It does retry while the backend cannot
// be reached, as Lock does; give it a context with a deadline where that
// matters. In a loop don't overwrite the context that you pass:
//
//	held, err := m.TryLock(ctx)
func (m *Mutex) TryLock(ctx context.Context) (held context.Context, err error) {
	return m.enter(ctx, false)
}

func (m *Mutex) enter(ctx context.Context, wait bool) (context.Context, error) {
	s, err := m.acquire(ctx, wait, m.log)
	if err != nil {
		failed, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		cancel(err)
		return failed, err
	}
	return s.guarded, nil
}

// acquire waits for the turn among the goroutines of this process, has the
// driver get the lock, and makes a session of it.
func (m *Mutex) acquire(ctx context.Context, wait bool, log *slog.Logger) (*Session, error) {
	if err := m.unusable(); err != nil {
		return nil, m.errorf([]error{err}, "%v", err)
	}
	l := &lease{target: &m.target}
	if err := m.tasks.Begin(l); err != nil {
		return nil, m.errorf([]error{err}, "not acquired: %v", err)
	}
	s, err := m.granted(ctx, l, wait, log)
	if err != nil {
		m.tasks.End(l)
		return nil, err
	}
	m.turn.enter(s.lease)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = s
	return s, nil
}

// granted returns a session of the lease l, once its lock is granted, or of the
// one that was handed over.
func (m *Mutex) granted(
	ctx context.Context, l *lease, wait bool, log *slog.Logger,
) (*Session, error) {
	open, stop := m.tasks.WhileOpen(ctx)
	defer stop()
	r := &report{name: m.name, since: time.Now(), tell: m.onWait, log: log}
	defer r.end()
	if m.onWait != nil {
		r.begin()
	}
	if !m.turn.take(open, r, wait) {
		return nil, m.notInside(open, r.since)
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
	g, err := m.driver.Acquire(open, &acquire.Request{
		Name: m.name, Creator: wire.WithMark(m.creator, wire.NewMark()), Lease: m.ttl, Wait: wait,
		Since: r.since, Silence: &m.silence, Patience: m.patience, BackOff: m.backOff,
		Progress: func(holder *api.Lock) { r.holderIs(holder); m.turn.holderIs(holder) },
		Follow:   m.onWait != nil, Values: ctx, Log: m.log,
	})
	if err != nil {
		m.turn.leave()
		return nil, m.failed(err, wait)
	}
	m.silence.Heard()
	s := newSession(ctx, m, l)
	l.start(g, s)
	return s, nil
}

// notInside returns the error for a Lock that did not get the turn.
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

// Unlock releases the lock. It works with a cancelled context: of held it takes
// the values, neither the cancellation nor the deadline. Whatever it returns,
// the contexts of the lock are done, and the next goroutine of this process may
// enter. Given a context that no Lock of this Mutex returned, it releases what
// the Mutex holds now, as sync.Mutex does: that can be the lock of another
// goroutine.
//
//   - nil: the lock was held without a gap from Lock to this Unlock, and is
//     released (or handed over, see [WithHandoff]). Where the first answer to the
//     release was lost, a lock that is gone by the second counts as released by
//     the first; whether somebody else had deleted it just before is not known.
//   - [*LostError]: it was lost on the way.
//   - [*NotReleasedError]: it was held as far as is known, but the backend did
//     not confirm the release within 10 s. The release is retried in the
//     background until the lease ends.
//   - [ErrNotLocked]: nothing is held, or held carries a session of this Mutex
//     that is over: a second Unlock releases nobody else's lock.
func (m *Mutex) Unlock(held context.Context) error {
	m.mu.Lock()
	s := m.session
	if own, ok := m.FromContext(held); s == nil || ok && own != s {
		m.mu.Unlock()
		return m.errorf([]error{ErrNotLocked},
			"not held; Unlock goes once with each Lock that succeeded")
	}
	m.session = nil
	m.mu.Unlock()
	if m.handoff && m.turn.wanted() && s.lease.leave() {
		s.finish(ErrUnlocked)
		m.turn.handOver(s.lease)
		return nil
	}
	defer m.turn.leave()
	return s.lease.release(held)
}

// Do calls f inside the lock, with the guarded context, and unlocks, also when
// f panics or calls [runtime.Goexit]. It returns the error of Lock, or else that
// of f as it is; where Unlock has one that f has not returned, such as a loss
// that f did not notice, the two are joined.
func (m *Mutex) Do(ctx context.Context, f func(context.Context) error) (err error) {
	held, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() {
		switch unlocked := m.Unlock(held); {
		case err == nil:
			err = unlocked
		case unlocked != nil && !errors.Is(err, unlocked): // f may return the cause of its context
			err = errors.Join(err, unlocked)
		}
	}()
	return f(held)
}

// FromContext returns the session of this mutex that guards ctx, however many
// other locks are nested inside it. The session may be over: its Err tells.
func (m *Mutex) FromContext(ctx context.Context) (*Session, bool) {
	s, ok := ctx.Value(m).(*Session)
	return s, ok
}

package relukko

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
)

// Mutex is a lock of one name on a Relukko backend. At most one holder at a
// time is inside it, over all processes and goroutines. Make one with
// [NewMutex], the zero Mutex is of no use; goroutines may share it.
//
// Like [sync.Mutex] it is not re-entrant: a goroutine that locks it twice waits
// until its context ends.
type Mutex struct {
	client *api.Client
	name   string
	options
	err  error               // the client, the name or an option is unusable: every Lock fails
	turn *semaphore.Weighted // held from Lock to Unlock: first come, first served in this process

	mu      sync.Mutex
	session *Session             // between Lock and Unlock
	word    time.Time            // when the backend last said who has the lock
	silence error                // since then a goroutine has waited it out, with this result
	queue   map[*report]struct{} // who waits for the turn
	left    *lease               // handed on, until the next goroutine takes it over
}

// NewMutex returns a mutex for the lock name (1 to 255 bytes of UTF-8 without
// control characters). It sends nothing and does not fail: with a client, a name
// or an option that cannot be used, every Lock returns an error that says so.
func NewMutex(client *api.Client, name string, opts ...Option) *Mutex {
	m := &Mutex{
		client:  client,
		name:    name,
		options: newOptions(opts),
		turn:    semaphore.NewWeighted(1),
		queue:   make(map[*report]struct{}),
	}
	m.err = m.check(name)
	if client == nil {
		m.err = errors.New("the client is nil; api.New and api.FromEnv say why in their error")
	}
	return m
}

// Name returns the name of the lock.
func (m *Mutex) Name() string { return m.name }

// Lock blocks until the caller holds the lock or ctx is done.
//
// The context it returns is derived from ctx and is done as soon as the lock is
// lost or unlocked; [context.Cause] then tells: a [*LostError], [ErrUnlocked],
// or the cause of ctx. When ctx is done the lock stays held until Unlock.
//
// When err is non-nil the returned context is already cancelled, with err as
// its cause, and no lock is left on the backend as soon as it can be reached;
// [api.Client.Close] waits for that. Lock fails when ctx is done, when the
// backend refuses (errors.Is finds [api.ErrRefused]) or answers nonsense, when
// for a minute it says nothing about who has the lock ([WithBackOff] changes
// that), and when the client closes ([api.ErrClosed]). The error says who holds
// the lock, or what the backend last said: when ctx ends while somebody holds the
// lock, errors.Is finds [ErrLocked] beside the error and the cause of ctx.
func (m *Mutex) Lock(ctx context.Context) (context.Context, error) {
	return m.enter(ctx, false)
}

// TryLock is Lock without waiting for a holder: when the lock is held, here or
// elsewhere, it returns a [*LockedError]. It does wait out a backend that
// cannot be reached, as Lock does; give it a context with a deadline where that
// matters. In a loop don't overwrite the context that you pass:
//
//	held, err := m.TryLock(ctx)
func (m *Mutex) TryLock(ctx context.Context) (context.Context, error) {
	return m.enter(ctx, true)
}

func (m *Mutex) enter(ctx context.Context, try bool) (context.Context, error) {
	s, err := m.acquire(ctx, try, m.log)
	if err != nil {
		failed, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		cancel(err)
		return failed, err
	}
	return s.guarded, nil
}

func (m *Mutex) acquire(ctx context.Context, try bool, log *slog.Logger) (s *Session, err error) {
	if m.err != nil {
		return nil, m.errorf([]error{m.err}, "%v", m.err)
	}
	a := &acquisition{m: m, parent: ctx, ctx: ctx, hub: hubOf(m.client), creator: marked(m.creator), began: time.Now()}
	a.report = report{name: m.name, tell: m.onWait, since: a.began, log: log}
	defer a.report.end()
	if a.task = m.client.Tasks().Start(a); a.task == nil {
		return nil, m.errorf([]error{api.ErrClosed}, "not acquired: %v", api.ErrClosed)
	}
	defer func() {
		if a.waited != nil {
			a.waited()
		}
	}()
	if err := m.takeTurn(a, try); err != nil {
		a.task.Done()
		return nil, err
	}
	if s := m.takeOver(a); s != nil {
		a.task.Done()
		return s, nil
	}
	s, err = a.run(try)
	if w := a.waiter.Load(); w != nil {
		a.hub.forget(a, w, s)
	}
	if err != nil {
		m.turn.Release(1)
		if a.flight != nil || a.lost > 0 {
			go a.cleanUp()
		} else {
			a.task.Done()
		}
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session, m.word, m.silence = s, time.Now(), nil
	lock := s.Info()
	for r := range m.queue {
		r.holderIs(&lock)
	}
	return s, nil
}

// takeTurn waits until no other goroutine of this process is inside.
func (m *Mutex) takeTurn(a *acquisition, try bool) error {
	if a.ctx.Err() != nil {
		return a.gaveUp()
	}
	if m.turn.TryAcquire(1) {
		return nil
	}
	m.mu.Lock()
	if l := m.lease(); l != nil {
		lock := l.info()
		a.report.holderIs(&lock)
	}
	if try {
		m.mu.Unlock()
		return &LockedError{Name: m.name, Holder: a.report.known()}
	}
	m.queue[&a.report] = struct{}{}
	m.mu.Unlock()
	a.slow()
	a.held = a.report.known() != nil

	defer time.AfterFunc(reportAfter, a.report.begin).Stop()
	err := m.turn.Acquire(a.ctx, 1)

	m.mu.Lock()
	delete(m.queue, &a.report)
	m.mu.Unlock()
	if err != nil {
		m.clearUp()
		return a.gaveUp()
	}
	a.held = false
	a.report.forget()
	return nil
}

// answered notes that the backend has just said who has the lock.
func (m *Mutex) answered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.word, m.silence = time.Now(), nil
}

// silent notes that the backend has said nothing for as long as a goroutine had
// patience, and err last.
func (m *Mutex) silent(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silence = err
}

// stillSilent returns what the backend last said to the goroutine that waited it
// out, when there was none before since answered.
func (m *Mutex) stillSilent(answered time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.patience == 0 || time.Since(answered) < m.patience {
		return nil
	}
	return m.silence
}

// silentSince is when the backend last said who has the lock, or began if that
// is later: goroutines that queue here for a backend that is silent need not
// wait it out one after the other.
func (m *Mutex) silentSince(began time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.word.After(began) {
		return m.word
	}
	return began
}

// Unlock releases the lock. It works with a cancelled context: of ctx it takes
// the values, neither the cancellation nor the deadline. Whatever it returns,
// the contexts of the lock are done, and the next goroutine of this process may
// enter.
//
//   - nil: the lock was held without a gap from Lock to this Unlock, and is
//     released (or handed on, see [WithHandoff]). Where the first answer to the
//     release was lost, a lock that is gone by the second counts as released by
//     the first: whether somebody else had deleted it just before, nobody can tell.
//   - [*LostError]: it was lost on the way.
//   - [ErrNotReleased]: it was held as far as is known, but the backend did not
//     confirm the release within 10 s. The release is tried again behind until
//     the lease ends.
//   - [ErrNotLocked]: nothing is held, or ctx carries a session of this Mutex
//     that is over: a second Unlock frees nobody else's lock.
func (m *Mutex) Unlock(ctx context.Context) error {
	m.mu.Lock()
	s := m.session
	if own, ok := ctx.Value(m).(*Session); s == nil || ok && own != s {
		m.mu.Unlock()
		return m.errorf([]error{ErrNotLocked}, "not held; Unlock goes once with each Lock that succeeded")
	}
	m.session = nil
	m.mu.Unlock()
	if m.handoff && m.handOn(s) {
		return nil
	}
	defer m.turn.Release(1)
	return s.lease.release(ctx)
}

// Do calls f inside the lock, with the guarded context, and unlocks, also when
// f panics or calls [runtime.Goexit]. It returns the error of Lock, or else that
// of f as it is; where Unlock has one that f has not returned, as a loss that f
// did not notice, the two are joined: a loss is never lost.
func (m *Mutex) Do(ctx context.Context, f func(context.Context) error) (err error) {
	held, err := m.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() {
		switch unlocked := m.Unlock(held); {
		case err == nil:
			err = unlocked
		case unlocked != nil && !errors.Is(err, unlocked): // f may have returned the loss, as its context's cause
			err = errors.Join(err, unlocked)
		}
	}()
	return f(held)
}

// lost logs a loss and tells WithOnLost's function.
func (m *Mutex) lost(loss *LostError) {
	m.log.Warn("lock lost", "lock", m.name, "id", loss.ID, "reason", loss.Reason.String(), "error", loss.Err)
	if m.onLost != nil {
		go m.onLost(loss)
	}
}

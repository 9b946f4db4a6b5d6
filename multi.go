package relukko

import (
	"context"
	"strings"

	"gitlab.com/relukko/relukko-go/api"
)

// MultiMutex is all of several locks on a Relukko backend, or none of them: a robot arm and the
// camera above it. It excludes Mutexes, Pools and other MultiMutexes of the same names. Those that
// want some of the same locks, in whatever order, never wait for each other in a circle. Create a
// MultiMutex with [NewMultiMutex]; Lock of the zero MultiMutex fails. A MultiMutex is safe for
// concurrent use. Like a [Mutex] it is not re-entrant.
//
// On our own backend, over the stream, Lock acquires all locks at one instant, and holds none while
// it waits. It stands in the queue of each name. Where it is the first, the name is kept free for
// it, for 10 s at first; if the others are not free by then, the next in that queue is granted the
// name once. So a holder of one of the names that waits for another one is served in the end, and
// nobody waits forever.
//
// On other backends, and where WebSockets do not pass, Lock acquires one lock after the other, in
// the order of their names, and holds those that it has while it waits for the next. Then two
// MultiMutexes still never wait for each other, but a program that holds a lock by a Mutex and
// waits for a MultiMutex can deadlock with the MultiMutex of another program. If a lock is lost
// before all are acquired, Lock begins anew, with the pauses and the limit of [WithBackOff];
// [WithOnLost] reports only losses after that.
type MultiMutex struct{ mutex Mutex }

// NewMultiMutex returns a mutex for all of the locks with these names: 1 to 100, without
// repetition, each valid for a [Mutex]. It sends no request and never fails. If client is nil, or a
// name or an option is invalid, every Lock returns an error that says so; [WithHandoff] is invalid
// for a MultiMutex.
func NewMultiMutex(client *api.Client, names []string, opts ...Option) *MultiMutex {
	m := new(MultiMutex)
	m.mutex.target = target{name: listed(names, "and"), all: append([]string{}, names...)}
	m.mutex.target.init(client, opts)
	m.mutex.turn.init()
	return m
}

// Name returns the names, joined with ", ".
func (m *MultiMutex) Name() string { return strings.Join(m.mutex.all, ", ") }

// Lock blocks until the caller holds all of the locks. They have one [Session], which ends, as the
// guarded context does, when any of them is lost; the field Name of the [*LostError] says which.
// The others stay held, and are renewed, until Unlock. Otherwise Lock behaves as [Mutex.Lock].
func (m *MultiMutex) Lock(ctx context.Context) (held context.Context, err error) {
	return m.mutex.Lock(ctx)
}

// TryLock is Lock, but does not wait for another holder: if any of the locks is held, it returns an
// error that [ErrLocked] matches, with the [*LockedError] of one of them, and holds none.
func (m *MultiMutex) TryLock(ctx context.Context) (held context.Context, err error) {
	return m.mutex.TryLock(ctx)
}

// Unlock releases all of the locks. It returns what [Mutex.Unlock] returns: nil if all were held
// without a gap, and are released now. For locks that were lost, or whose release is not confirmed,
// errors.As finds the first [*LostError] and the first [*NotReleasedError]; the text names all.
func (m *MultiMutex) Unlock(held context.Context) error { return m.mutex.Unlock(held) }

// Do locks all of the locks, calls f with the guarded context, and unlocks, as [Mutex.Do] does.
func (m *MultiMutex) Do(ctx context.Context, f func(context.Context) error) error {
	return m.mutex.Do(ctx, f)
}

// FromContext returns the session of this MultiMutex that ctx belongs to, as [Mutex.FromContext]
// does for a Mutex.
func (m *MultiMutex) FromContext(ctx context.Context) (*Session, bool) {
	return m.mutex.FromContext(ctx)
}

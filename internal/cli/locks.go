package cli

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// locks are acquired in the order of their names, so that two programs that want
// the same ones never wait for each other. They implement [supervise.Permit].
type locks struct {
	client  *api.Client
	lockers []locker
	held    []context.Context // as Lock returned them, of the first lockers

	maxHold time.Duration // for which a command may run; 0: without limit
	tooLong atomic.Bool   // that is over
}

// locker is a mutex or a pool.
type locker interface {
	Lock(ctx context.Context) (held context.Context, err error)
	TryLock(ctx context.Context) (held context.Context, err error)
	Unlock(held context.Context) error
}

// newLocks returns locks for names, without duplicates. options returns those of
// the mutex for a name.
func newLocks(c *api.Client, names []string, options func(name string) []relukko.Option) *locks {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	l := &locks{client: c}
	for _, name := range names {
		l.lockers = append(l.lockers, relukko.NewMutex(c, name, options(name)...))
	}
	return l
}

// newPool is newLocks for any one of the names.
func newPool(c *api.Client, names []string, options []relukko.Option) *locks {
	return &locks{client: c, lockers: []locker{relukko.NewPool(c, names, options...)}}
}

// acquire returns when all are held; after an error none is. It starts again when
// one is lost while it waits for the next: nothing has happened under it yet.
func (l *locks) acquire(ctx context.Context, try bool) error {
	for {
		err := l.acquireOnce(ctx, try)
		if err == nil {
			err = l.lost()
		}
		if err == nil {
			return nil
		}
		l.release()
		if !errors.Is(err, relukko.ErrLockLost) || ctx.Err() != nil {
			return err
		}
	}
}

func (l *locks) acquireOnce(ctx context.Context, try bool) error {
	for _, m := range l.lockers {
		lock := m.Lock
		if try {
			lock = m.TryLock
		}
		held, err := lock(ctx)
		if err != nil {
			return err
		}
		l.held = append(l.held, held)
		ctx = held // the wait for the next one ends when this one is lost
	}
	return nil
}

// sessions returns those of the locks that are held.
func (l *locks) sessions() []*relukko.Session {
	sessions := make([]*relukko.Session, 0, len(l.held))
	for _, held := range l.held {
		s, _ := relukko.FromContext(held)
		sessions = append(sessions, s)
	}
	return sessions
}

// Revoked returns a channel that is closed when one of them is lost, or the time of
// maxHold is over.
func (l *locks) Revoked() <-chan struct{} {
	revoked := make(chan struct{})
	revoke := sync.OnceFunc(func() { close(revoked) })
	for _, s := range l.sessions() {
		context.AfterFunc(s.CleanupContext(), revoke)
	}
	if l.maxHold > 0 {
		time.AfterFunc(l.maxHold, func() { l.tooLong.Store(true); revoke() })
	}
	return revoked
}

// whenWanted calls f once somebody waits for one of them.
func (l *locks) whenWanted(f func()) {
	f = sync.OnceFunc(f)
	for _, s := range l.sessions() {
		go func() {
			select {
			case <-s.Wanted():
				f()
			case <-s.Done():
			}
		}()
	}
}

// Valid reports whether all are held, by a look at the clocks, and not for too long.
func (l *locks) Valid() bool { return l.lost() == nil && !l.tooLong.Load() }

// lost returns the loss of one of them, by a look at the clocks.
func (l *locks) lost() error {
	for _, s := range l.sessions() {
		if err := s.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Left returns how long the first lease lasts, by the clock that says less: the
// monotonic clock stands still while the machine is suspended.
func (l *locks) Left() time.Duration {
	left := forever
	for _, s := range l.sessions() {
		if end := s.LeaseEnd(); !end.IsZero() { // zero in trust mode
			left = min(left, time.Until(end), time.Until(end.Round(0)))
		}
	}
	return left
}

const forever = time.Duration(1<<63 - 1)

// release releases all of them, the last first. It returns how one was lost, if
// one was, and those whose release was not confirmed.
func (l *locks) release() (loss *relukko.LostError, unreleased []*relukko.NotReleasedError) {
	for i, held := range slices.Backward(l.held) {
		err := l.lockers[i].Unlock(held)
		if e, ok := errors.AsType[*relukko.LostError](err); ok {
			loss = e
		} else if e, ok := errors.AsType[*relukko.NotReleasedError](err); ok {
			unreleased = append(unreleased, e)
		}
	}
	l.held = nil
	return loss, unreleased
}

// environment describes the locks to a command that runs under those of the names in
// around too. Each variable has one line for each lock: no name has a line break in it.
func (l *locks) environment(around []string) []string {
	var ids, names, tokens []string
	for _, s := range l.sessions() {
		lock := s.Info()
		token := ""
		if lock.FencingToken != 0 {
			token = strconv.FormatUint(lock.FencingToken, 10)
		}
		ids = append(ids, lock.ID)
		names = append(names, lock.Name)
		tokens = append(tokens, token)
	}
	lines := func(s []string) string { return strings.Trim(strings.Join(s, "\n"), "\n") }
	return []string{
		"RELUKKO_LOCK_ID=" + lines(ids),
		envLockName + "=" + lines(names),
		"RELUKKO_FENCING_TOKEN=" + lines(tokens),
		envHeldLocks + "=" + lines(append(slices.Clone(around), names...)),
	}
}

// overridden returns env with the variables in more instead of its own: of two
// values for one variable some programs take the first, others the last.
func overridden(env, more []string) []string {
	set := make(map[string]bool, len(more))
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return set[name]
	})
	return append(env, more...)
}

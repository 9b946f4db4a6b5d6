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

// locks are the lock of a Mutex, one of the locks of a Pool, or all locks of a
// MultiMutex. They implement [supervise.Permit].
type locks struct {
	client *api.Client
	locker locker
	held   context.Context // as Lock returned it; nil: none is held

	maxHold time.Duration // for which a command may run; 0: without limit
	tooLong atomic.Bool   // that is over
}

type locker interface {
	Lock(ctx context.Context) (held context.Context, err error)
	TryLock(ctx context.Context) (held context.Context, err error)
	Unlock(held context.Context) error
}

// newLocks returns the locks of all these names.
func newLocks(c *api.Client, names []string, options []relukko.Option) *locks {
	if len(names) == 1 {
		return &locks{client: c, locker: relukko.NewMutex(c, names[0], options...)}
	}
	return &locks{client: c, locker: relukko.NewMultiMutex(c, names, options...)}
}

// newPool is newLocks for any one of the names.
func newPool(c *api.Client, names []string, options []relukko.Option) *locks {
	return &locks{client: c, locker: relukko.NewPool(c, names, options...)}
}

// acquire returns when all are held; after an error none is.
func (l *locks) acquire(ctx context.Context, try bool) error {
	lock := l.locker.Lock
	if try {
		lock = l.locker.TryLock
	}
	held, err := lock(ctx)
	if err == nil {
		l.held = held
	}
	return err
}

// session returns that of the locks, which are held.
func (l *locks) session() *relukko.Session {
	s, _ := relukko.FromContext(l.held)
	return s
}

// Revoked returns a channel that is closed when one of them is lost, or the time of
// maxHold is over.
func (l *locks) Revoked() <-chan struct{} {
	revoked := make(chan struct{})
	revoke := sync.OnceFunc(func() { close(revoked) })
	context.AfterFunc(l.session().CleanupContext(), revoke)
	if l.maxHold > 0 {
		time.AfterFunc(l.maxHold, func() { l.tooLong.Store(true); revoke() })
	}
	return revoked
}

// wantedAfter is the time that a command has at first to prepare for the signal of --on-wanted.
const wantedAfter = time.Second

// whenWanted calls f once somebody waits for one of them, but not before wantedAfter.
func (l *locks) whenWanted(f func()) {
	s := l.session()
	prepared := time.After(wantedAfter)
	go func() {
		select {
		case <-s.Wanted():
		case <-s.Done():
			return
		}
		select {
		case <-prepared:
			f()
		case <-s.Done():
		}
	}()
}

// Valid reports whether all are held, by a look at the clocks, and not for too long.
func (l *locks) Valid() bool { return l.session().Err() == nil && !l.tooLong.Load() }

// Left returns how long the first lease lasts, by the clock that says less: the
// monotonic clock stands still while the machine is suspended.
func (l *locks) Left() time.Duration {
	end := l.session().LeaseEnd()
	if end.IsZero() { // in trust mode
		return forever
	}
	return min(time.Until(end), time.Until(end.Round(0)))
}

const forever = time.Duration(1<<63 - 1)

// release releases all of them. It returns how one was lost, if one was, and those
// whose release was not confirmed.
func (l *locks) release() (loss *relukko.LostError, unreleased []*relukko.NotReleasedError) {
	err := l.locker.Unlock(l.held)
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for _, err := range errs {
		if e, ok := errors.AsType[*relukko.LostError](err); ok {
			loss = e
		} else if e, ok := errors.AsType[*relukko.NotReleasedError](err); ok {
			unreleased = append(unreleased, e)
		}
	}
	return loss, unreleased
}

// environment describes the locks to a command that runs under those of the names in
// around too. Each variable has one line for each lock: no name has a line break in it.
func (l *locks) environment(around []string) []string {
	var ids, names, tokens []string
	for _, lock := range l.session().Locks() {
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

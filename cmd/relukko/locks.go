package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// locks are taken all or none, always in the order of their names: two who want
// the same ones never wait for each other.
type locks struct {
	client  *api.Client
	mutexes []*relukko.Mutex
	held    []context.Context // as Lock returned them, of the first mutexes
}

// newLocks makes locks of names, of which some may be the same. options are
// those of the mutex for a name.
func newLocks(c *api.Client, names []string, options func(name string) []relukko.Option) *locks {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	l := &locks{client: c}
	for _, name := range names {
		l.mutexes = append(l.mutexes, relukko.NewMutex(c, name, options(name)...))
	}
	return l
}

// take returns when all are held; on an error none is. One that is lost while
// the next is waited for has nothing spoilt: all are taken anew.
func (l *locks) take(ctx context.Context, try bool) error {
	for {
		err := l.takeOnce(ctx, try)
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

func (l *locks) takeOnce(ctx context.Context, try bool) error {
	for _, m := range l.mutexes {
		lock := m.Lock
		if try {
			lock = m.TryLock
		}
		held, err := lock(ctx)
		if err != nil {
			return err
		}
		l.held = append(l.held, held)
		ctx = held // whoever waits for the next knows when this one is lost
	}
	return nil
}

// sessions are those of the locks that are held.
func (l *locks) sessions() []*relukko.Session {
	sessions := make([]*relukko.Session, 0, len(l.held))
	for _, held := range l.held {
		s, _ := relukko.FromContext(held)
		sessions = append(sessions, s)
	}
	return sessions
}

// whenLost returns a channel that is closed when one of them is lost.
func (l *locks) whenLost() <-chan struct{} {
	lost := make(chan struct{})
	var once sync.Once
	for _, s := range l.sessions() {
		context.AfterFunc(s.CleanupContext(), func() { once.Do(func() { close(lost) }) })
	}
	return lost
}

// lost is nil while all are held, by a look at the clocks.
func (l *locks) lost() error {
	for _, s := range l.sessions() {
		if err := s.Err(); err != nil {
			return err
		}
	}
	return nil
}

// left is how long all of them are ours for certain, by whichever clock says
// less: the monotonic one stands still while the machine is suspended.
func (l *locks) left() time.Duration {
	left := time.Duration(1<<63 - 1)
	for _, s := range l.sessions() {
		if end := s.LeaseEnd(); !end.IsZero() { // else there is no lease
			left = min(left, time.Until(end), time.Until(end.Round(0)))
		}
	}
	return left
}

// release gives all of them back, the last first. The error is the worst that
// is to be said: that one was lost, or else was not released.
func (l *locks) release() error {
	var worst error
	for i, held := range slices.Backward(l.held) {
		err := l.mutexes[i].Unlock(held)
		if worst == nil || errors.Is(err, relukko.ErrLockLost) {
			worst = err
		}
	}
	l.held = nil
	return worst
}

// environment tells a command about them. Of several, each variable has one line
// for each: no name has a line break in it.
func (l *locks) environment() []string {
	var ids, names, tokens []string
	for _, s := range l.sessions() {
		lock := s.Info()
		token := ""
		if lock.FencingToken != 0 {
			token = strconv.FormatUint(lock.FencingToken, 10)
		}
		ids, names, tokens = append(ids, lock.ID), append(names, lock.Name), append(tokens, token)
	}
	lines := func(s []string) string { return strings.Trim(strings.Join(s, "\n"), "\n") }
	return []string{
		"RELUKKO_LOCK_ID=" + lines(ids),
		"RELUKKO_LOCK_NAME=" + lines(names),
		"RELUKKO_FENCING_TOKEN=" + lines(tokens),
	}
}

// overridden is env with what is in more, instead of what env says of the same
// variables, for example of the locks of a relukko run further out: of several
// values some programs take the first, others the last.
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

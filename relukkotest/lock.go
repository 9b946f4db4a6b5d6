package relukkotest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

const (
	defaultWait = 10 * time.Minute
	tidyUp      = 30 * time.Second // what Lock leaves of the test binary's time
	oneTry      = 5 * time.Second  // for a look at the lock when no time to wait is left
	maxName     = 255              // bytes, of a lock's name
)

// LockOption configures [Lock].
type LockOption func(*lockOptions)

type lockOptions struct {
	name  string
	wait  time.Duration
	mutex []relukko.Option
}

// Name sets the name of the lock, which is that of the resource. The default consists of the
// package that calls [Lock] and the name of the test, so that a test excludes only other runs of
// itself.
func Name(name string) LockOption { return func(o *lockOptions) { o.name = name } }

// Wait sets the longest time to wait for the lock. The default is 10 min. With 0 the test is
// skipped if the lock is not free.
func Wait(d time.Duration) LockOption { return func(o *lockOptions) { o.wait = d } }

// MutexOptions sets options of the [relukko.Mutex] that [Lock] uses. WithOnWait has no effect,
// since Lock logs the holder itself.
func MutexOptions(opts ...relukko.Option) LockOption {
	return func(o *lockOptions) { o.mutex = append(o.mutex, opts...) }
}

// Lock makes the test exclusive. It returns when the test holds the lock. The lock is released
// after the test, its subtests, and the Cleanup functions that were registered after the call.
//
// While another client holds the lock, Lock waits: for 10 min or the time given with [Wait], but
// not into the last 30 s before the time-out of the test binary (go test -timeout). If it does not
// hold the lock by then, the test is skipped, with the holder in the message. The test fails if the
// backend refuses, which happens immediately, or if it cannot be reached for a minute or for the
// time to wait, whichever is shorter.
//
// The returned context is derived from t.Context. It is done as soon as the lock is lost, which
// also fails the test. Pass it to everything that uses the resource. In a Cleanup function, when
// t.Context is done, use [relukko.Session.CleanupContext] of the session that [relukko.FromContext]
// returns.
//
//	func TestCalibration(t *testing.T) {
//		ctx := relukkotest.Lock(t, client, relukkotest.Name("robot-arm-1"))
//		arm.Calibrate(ctx)
//	}
//
// Like [testing.T.FailNow], Lock must be called from the goroutine of the test.
func Lock(t testing.TB, c *api.Client, opts ...LockOption) context.Context {
	t.Helper()
	o := lockOptions{wait: defaultWait}
	for _, opt := range opts {
		opt(&o)
	}
	if o.name == "" {
		pc, _, _, _ := runtime.Caller(1)
		o.name = testLockName(runtime.FuncForPC(pc).Name(), t.Name())
	}
	log := &waitLog{t: t, what: fmt.Sprintf("lock %q", o.name)}
	return hold(t, relukko.NewMutex(c, o.name, append(o.mutex, log.option())...), log, o.wait)
}

// LockAny is [Lock] for any one of several resources that are alike; the [relukko.Session] that
// [relukko.FromContext] returns for the context says which.
//
//	func TestFlash(t *testing.T) {
//		ctx := relukkotest.LockAny(t, client, "bench-1", "bench-2")
//		s, _ := relukko.FromContext(ctx)
//		flash(ctx, s.Name())
//	}
func LockAny(t testing.TB, c *api.Client, names ...string) context.Context {
	t.Helper()
	log := &waitLog{t: t, what: fmt.Sprintf("any of %q", names)}
	return hold(t, relukko.NewPool(c, names, log.option()), log, defaultWait)
}

// locker is a mutex or a pool.
type locker interface {
	Lock(ctx context.Context) (held context.Context, err error)
	TryLock(ctx context.Context) (held context.Context, err error)
	Unlock(held context.Context) error
}

// hold locks m until the test has ended.
func hold(t testing.TB, m locker, log *waitLog, wait time.Duration) context.Context {
	t.Helper()
	held, err := lockWithin(t, m, wait)
	log.end()
	switch {
	case errors.Is(err, relukko.ErrLocked):
		t.Skipf("relukkotest: skipped, another client has the lock: %v", err)
	case err != nil:
		t.Fatalf("relukkotest: %v", err)
	}
	unlockAtTheEnd(t, m, held)
	return held
}

// lockWithin is m.Lock with a limit to the waiting, not to the context it returns.
func lockWithin(t testing.TB, m locker, wait time.Duration) (context.Context, error) {
	lock := m.Lock
	if deadline, ok := testDeadline(t); ok {
		wait = min(wait, time.Until(deadline)-tidyUp)
	}
	if wait <= 0 {
		lock, wait = m.TryLock, oneTry
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	timer := time.AfterFunc(wait, func() {
		cancel(fmt.Errorf("waited for %v", wait.Round(time.Millisecond)))
	})

	held, err := lock(ctx)
	if !timer.Stop() && err == nil { // it came at the very end, and its context is over
		s, _ := relukko.FromContext(held)
		late := fmt.Errorf("relukko: lock %q: %w, until it came too late: %w",
			s.Name(), relukko.ErrLocked, context.Cause(ctx))
		err = errors.Join(late, m.Unlock(held))
	}
	return held, err
}

// unlockAtTheEnd unlocks m in a Cleanup, and fails the test, once, if the lock
// is lost before that or cannot be released.
func unlockAtTheEnd(t testing.TB, m locker, held context.Context) {
	var once sync.Once
	lost := func(err error) { once.Do(func() { t.Errorf("relukkotest: %v", err) }) }
	session, _ := relukko.FromContext(held)
	stop := context.AfterFunc(session.CleanupContext(), func() { lost(session.Err()) })
	t.Cleanup(func() {
		if !stop() {
			lost(session.Err()) // waits until the log is written: it must not be later
		}
		if err := m.Unlock(held); err != nil {
			lost(err)
		}
	})
}

// testDeadline returns when the test binary will be killed.
func testDeadline(t testing.TB) (deadline time.Time, ok bool) {
	d, ok := t.(interface{ Deadline() (time.Time, bool) })
	if !ok {
		return time.Time{}, false
	}
	// In a testing/synctest bubble, where time is not that of the test binary, Deadline panics.
	defer func() {
		if recover() != nil {
			deadline, ok = time.Time{}, false
		}
	}()
	return d.Deadline()
}

// testLockName returns the name of a lock for a test, given the full name of a
// function of its package.
func testLockName(function, test string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	pkg := function
	if dot := strings.IndexByte(function[slash:], '.'); dot >= 0 {
		pkg = function[:slash+dot]
	}
	if plain, err := url.PathUnescape(pkg); err == nil { // %2e is a dot in the last element
		pkg = plain
	}
	name := strings.TrimSuffix(pkg, "_test") + "." + test
	if len(name) <= maxName {
		return name
	}
	sum := fmt.Sprintf("…%x", sha256.Sum256([]byte(name)))[:len("…")+16]
	return strings.ToValidUTF8(name[:maxName-len(sum)], "") + sum
}

// waitLog logs who holds the lock.
type waitLog struct {
	t    testing.TB
	what string // is waited for

	mu   sync.Mutex
	over bool // nothing may be logged when the test has ended
}

// option returns the option by which a mutex or a pool uses the log.
func (l *waitLog) option() relukko.Option {
	return relukko.WithOnWait(func(w relukko.Waiting) { l.holder(w.Holder) })
}

func (l *waitLog) holder(lock *api.Lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.over:
	case lock == nil:
		l.t.Logf("relukkotest: waiting for %s", l.what)
	default:
		l.t.Logf("relukkotest: waiting for %s, held by %s (%s) since %s",
			l.what, lock.Creator, lock.IP, lock.CreatedAt.Format(time.RFC3339))
	}
}

func (l *waitLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// Package acquire is the boundary between a mutex and the ways to get its lock
// from a backend. A mutex hands a [Request] to a [Driver] and gets a [Grant]; it
// counts the lease, renews it and releases it, through the driver. A driver
// never sees a session, and a session never sees a request to the backend.
package acquire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/clock"
)

// Driver gets locks from one backend. All mutexes of a client share one.
type Driver interface {
	// Acquire returns when the backend has granted the lock, when it refuses for
	// good, when ctx ends, or when the client closes. With an error it leaves no
	// lock on the backend, as soon as that can be reached: what is to be cleaned up
	// goes on in the background, as a task of the client.
	Acquire(ctx context.Context, r *Request) (*Grant, error)

	// Renew makes one attempt to have the lock expire lease from now. It is safe
	// to make several at once. retry says that an earlier one has not been
	// answered: this one goes over another connection.
	Renew(ctx context.Context, g *Grant, lease time.Duration, retry bool) (api.Lock, error)

	// Release deletes the lock. It retries until the backend has answered, for
	// as long as patience, or until ctx ends, and reports whether the backend has
	// answered. The error is then api.ErrGone when the lock was gone before, or
	// [Refused] when the backend will not release it.
	Release(ctx context.Context, g *Grant, patience time.Duration) (answered bool, err error)

	// Drop ends the use of a grant that was released or is lost.
	Drop(g *Grant)

	// Watch calls check, which must not block, whenever the lock may have been
	// deleted by somebody else, until stop is called.
	Watch(g *Grant, check func()) (stop func())

	// Clock returns the clock that leases on this backend are counted by.
	Clock() *clock.Clock
}

// Request asks for a lock.
type Request struct {
	Name    string
	Creator string        // with a mark at its end that no other request has
	Lease   time.Duration // that the lock will be renewed for
	Wait    bool          // for a lock that is held; else the answer is a [Failure] with Held

	Since    time.Time     // when the caller began to wait
	Silence  *Silence      // shared by those who queue for the same mutex
	Patience time.Duration // with a backend that says nothing useful; 0: as long as BackOff says
	BackOff  func() backoff.BackOff

	// Progress is called, and must not block, whenever it is learnt which lock
	// holds the name. Follow says that somebody wants to know early and exactly.
	Progress func(holder *api.Lock)
	Follow   bool

	Values context.Context // for the requests: the caller's, of which only the values count
	Log    *slog.Logger
}

// Grant is a lock that the backend has granted.
type Grant struct {
	Lock   api.Lock
	Since  clock.Instant // the lease counts from here: before the request was sent that made it
	Length time.Duration // of the lease

	Creator     string // these three as in the request
	Values      context.Context
	Log         *slog.Logger
	Unanswered  bool // a create of this request was never answered: it may still make a lock
	ReleaseSent bool // a release was never answered: the lock may be gone by it
}

// Failure is why a request was not granted.
type Failure struct {
	Text   string
	Errs   []error   // what errors.Is and errors.As find
	Held   bool      // somebody holds the lock, as far as is known
	Holder *api.Lock // who that is; nil where that is not known
}

// GaveUp returns the failure of a request whose context has ended.
func GaveUp(ctx context.Context, since time.Time) *Failure {
	cause := context.Cause(ctx)
	f := &Failure{
		Text: fmt.Sprintf("not acquired within %v: %v",
			time.Since(since).Round(time.Millisecond), cause),
		Errs: []error{cause},
	}
	if err := ctx.Err(); err != cause && !errors.Is(cause, api.ErrClosed) {
		f.Errs = append(f.Errs, err)
	}
	return f
}

func (f *Failure) Error() string   { return f.Text }
func (f *Failure) Unwrap() []error { return f.Errs }

// Silence is what those who queue for one mutex know of a backend that does not
// say who holds the lock: they wait it out together, not one after the other.
type Silence struct {
	mu     sync.Mutex
	heard  time.Time // when the backend last said who holds the lock
	result error     // of a request that has waited it out since
}

// Heard records that the backend has just said who holds the lock.
func (s *Silence) Heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard, s.result = time.Now(), nil
}

// GaveUp records that a request has waited the silence out, with this result.
func (s *Silence) GaveUp(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = err
}

// Since returns when the silence began for a request that began then, and the
// result of one that has waited it out, if it has lasted for that long.
func (s *Silence) Since(began time.Time, patience time.Duration) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard.After(began) {
		began = s.heard
	}
	if patience == 0 || time.Since(began) < patience {
		return began, nil
	}
	return began, s.result
}

// Package acquire is the boundary between a mutex and the ways to get its lock from a backend. A
// mutex passes a [Request] to a [Driver] and gets a [Grant]. It counts the lease of the grant, and
// renews and releases it through the driver. A driver knows no session, and a session knows no
// request to the backend.
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

// Driver acquires locks on one backend. All mutexes of a client share one. Its methods are safe for
// concurrent use.
type Driver interface {
	// Acquire returns a grant, or an error once the backend has refused for good, ctx has ended or
	// the client has begun to close. An error is a [Failure] if the driver knows more than the
	// error's own text. After an error no lock is left on the backend: what must be deleted is
	// deleted in the background, as a task of the client.
	Acquire(ctx context.Context, r *Request) (*Grant, error)

	// Renew makes one attempt to make the lock expire lease from now. Several may be under way. If
	// retry is set it uses a new connection, since another attempt has no response yet.
	Renew(ctx context.Context, g *Grant, lease time.Duration, retry bool) (api.Lock, error)

	// Release deletes the lock. It retries until the backend responds, for at most patience and
	// until ctx ends, and reports whether the backend has responded. If so, err is nil, api.ErrGone
	// if the lock was gone before, or an error for which [Refused] is true.
	Release(ctx context.Context, g *Grant, patience time.Duration) (answered bool, err error)

	// Drop ends the use of a grant whose lock was released or lost. It deletes what other creates
	// of the same request may have made, in the background.
	Drop(g *Grant)

	// Watch calls w's functions until the caller calls stop.
	Watch(g *Grant, w Watcher) (stop func())

	// Clock returns the clock by which leases on this backend are counted.
	Clock() *clock.Clock
}

// Watcher is what the holder of a lock learns of it. The functions must not block.
type Watcher struct {
	Check  func()            // the lock may have been deleted by another client
	Wanted func(wanted bool) // clients wait for the lock, or none does any more; only some know
}

// Request asks for a lock.
type Request struct {
	Name    string        // of the lock
	Any     []string      // any one of these names instead; Name then describes them in messages
	All     []string      // all of these names instead, likewise; see [ErrApart]
	Creator string        // with a mark at its end that no other request has
	Lease   time.Duration // for which each renewal will ask
	Wait    bool          // while the lock is held; else the request fails, with Failure.Held

	Priority int // −10 to 10; ignored where the backend has no queue of its own

	// Sent is when another driver may first have sent a create with this mark; the zero time if
	// none has.
	Sent time.Time

	Since    time.Time     // when the caller began to wait
	Silence  *Silence      // shared by the requests of one mutex
	Patience time.Duration // until a [Silence] ends the request; 0: BackOff decides
	BackOff  func() backoff.BackOff

	// Progress is called with the lock that holds the name, or nil if it is unknown, and with the
	// number of waiters that are served first, or -1 if it is unknown, whenever the driver learns
	// of either. It must not block. Follow requires that the driver learns of each change soon.
	Progress func(holder *api.Lock, ahead int)
	Follow   bool

	Values context.Context // of the caller; the requests to the backend use only its values
	Log    *slog.Logger
}

// Grant is a lock that the backend has granted.
type Grant struct {
	Lock   api.Lock
	Since  clock.Instant // start of the lease: before the request that granted it was sent
	Length time.Duration // of the lease

	Creator string // this and the next two are those of the request
	Values  context.Context
	Log     *slog.Logger

	Pushed bool // the backend says by itself when the lock is deleted: watching costs no request

	ReleaseSent bool // the outcome of a release is unknown: it may have deleted the lock

	More []*Grant // of a request for all of several names: those of the second name and after it

	Unknown Unknown // of other creates of the request
}

// Unknown says of how many creates the outcome is unknown. The zero Unknown is of none.
type Unknown struct {
	Creates int
	Until   time.Time // no lock of theirs can appear any more from then on
}

// For how long after the failure of a create its lock may still appear. If there was no response
// the request may still be on its way: proxies keep it for a minute.
const (
	AppearUnanswered = 75 * time.Second
	AppearAnswered   = 5 * time.Second
)

// Add adds a create that has just failed, or whose lock could not be used. Answered says whether it
// got a response.
func (u *Unknown) Add(answered bool) {
	appear := AppearUnanswered
	if answered {
		appear = AppearAnswered
	}
	u.Creates++
	if until := time.Now().Add(appear); until.After(u.Until) {
		u.Until = until
	}
}

// ErrMoved is the cause with which the context of a request ends that another driver continues. The
// driver then cleans nothing up: the mark lives on.
var ErrMoved = errors.New("continued by another driver")

// ErrApart is the error of a request for all of several names where the backend does not grant them
// together, so that the caller must ask for each of them.
var ErrApart = errors.New("the backend does not grant several locks together")

// Failure is the error for a request that was not granted.
type Failure struct {
	Text   string
	Errs   []error   // found by errors.Is and errors.As
	Held   bool      // another lock holds the name, as far as is known
	Holder *api.Lock // that lock; nil if unknown
}

// GaveUp returns the failure of a request that began at since and whose context has ended.
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

// Silence is the time in which the backend has not said who holds the lock of one mutex. All
// requests of the mutex share it, so that they give up together and not one after the other. The
// zero Silence is ready for use.
type Silence struct {
	mu     sync.Mutex
	heard  time.Time // when the backend last said who holds the lock
	result error     // of a request that gave up since; nil if none has
}

// Heard records that the backend has just said who holds the lock, which ends the silence.
func (s *Silence) Heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard, s.result = time.Now(), nil
}

// GaveUp records that a request gave up because of the silence, with this error.
func (s *Silence) GaveUp(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result = err
}

// Since returns when the silence began, for a request that began at began. If it has lasted for
// patience, Since also returns the error of a request that gave up because of it, if there was one.
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

// Copied returns a copy of a lock; nil for nil.
func Copied(lock *api.Lock) *api.Lock {
	if lock == nil {
		return nil
	}
	own := *lock
	return &own
}

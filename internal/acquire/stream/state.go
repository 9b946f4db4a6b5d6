package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
	"gitlab.com/relukko/relukko-go/internal/sockets"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	pingEvery = 20 * time.Second // at most

	retryMin      = 50 * time.Millisecond // the first retry comes immediately
	retryMax      = time.Second           // while something waits
	retryHeld     = 5 * time.Second       // while locks are held only
	maxRetryAfter = 5 * time.Minute
)

var errNoHello = errors.New("what opened the WebSocket does not speak the protocol of the stream")

// durable is a request that is sent again on each new connection until it is answered: an acquire
// or a cancel. The methods are called with stream.mu locked.
type durable interface {
	send(l *link)
	lease() time.Duration // which limits the time between two pings; 0: it does not

	// outage is called when a connection could not be opened; the next attempt follows in pause. If
	// final is set, later attempts will fail as well.
	outage(err error, pause time.Duration, final bool)
	absent() // there is no stream, until the next send
}

// stream is the stream of a client, with all its connections. One goroutine opens and reads them,
// while there is anything that needs one.
type stream struct {
	client  *api.Client
	sockets sockets.Opener
	tasks   *lifecycle.Group
	clock   *clock.Clock
	cleanUp func(*acquire.Request) // of what a request has left

	ctx    context.Context // of dialing
	cancel context.CancelFunc

	mu      sync.Mutex
	closed  bool
	running chan struct{} // closed at the end of run; nil: it does not run
	wake    chan struct{} // shortens a pause of run
	opening chan struct{} // closed when the connection is open, or has failed; nil: none is opened
	link    *link         // nil while there is no connection
	heard   time.Time     // when the last message came

	durables map[durable]uint64 // with their order
	order    uint64
	users    int              // grants, and acquires over another driver
	held     map[string]early // by id, of the granted locks
	watches  map[string]acquire.Watcher
	backs    map[*context.CancelCauseFunc]struct{}

	had        bool      // there was a stream
	tries      int       // since the last connection that was healthy
	noStream   int       // responses in succession that there is no stream
	nonsense   int       // connections in succession that ended with nonsense
	plainSince time.Time // when plain requests were first answered since the stream is down

	away      bool // there is no stream
	awayFor   time.Duration
	nextTry   time.Time
	retry     *time.Timer // at nextTry; nil: none
	retrying  bool
	absenceOf error // why there is no stream
}

// early is what was told of a lock before Watch.
type early struct{ deleted, wanted bool }

func (e early) pass(w acquire.Watcher) {
	if e.deleted {
		w.Check()
	}
	if e.wanted {
		w.Wanted(true)
	}
}

// up returns the connection, or nil. The caller holds s.mu.
func (s *stream) up() *link {
	if s.link != nil && s.link.over == nil {
		return s.link
	}
	return nil
}

// isSilent reports whether the connection has not answered a renewal or a release in its time, and
// has been silent since.
func (s *stream) isSilent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.up()
	return l != nil && l.overdue
}

// needed reports whether anything needs a connection. The caller holds s.mu.
func (s *stream) needed() bool { return s.users > 0 || len(s.durables) > 0 }

func pingTime(lease time.Duration) time.Duration {
	if lease == 0 {
		return pingEvery
	}
	return min(lease/6, pingEvery)
}

// nonsense is a message that no server sends.
type nonsense struct{ error }

// pingPeriod returns the time between two pings. The caller holds s.mu.
func (s *stream) pingPeriod() time.Duration {
	period := pingEvery
	for d := range s.durables {
		period = min(period, pingTime(d.lease()))
	}
	return period
}

// hopeless reports whether later attempts will fail as err, of opening a connection, did.
func hopeless(err error) bool {
	_, answered := errors.AsType[*api.Error](err)
	return acquire.Refused(err) || !answered && !api.Transient(err)
}

// absent reports whether err, of opening a connection, means that there is no stream. 429 and most
// 5xx are an outage, the backend's own 401 and 403 are refusals of the key.
func absent(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	switch {
	case !ok:
		return errors.Is(err, errNoHello)
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return !e.Own
	case e.Status == http.StatusTooManyRequests:
		return false
	}
	return e.Status < 500 || e.Status == http.StatusNotImplemented
}

// plain records whether a plain request was answered by the backend.
func (s *stream) plain(err error) {
	e, answered := errors.AsType[*api.Error](err)
	answered = err == nil || answered && e.Own && e.Status < 500
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !answered || s.up() != nil:
		s.plainSince = time.Time{}
	case s.plainSince.IsZero():
		s.plainSince = time.Now()
	}
}

// pause returns the pause before the next attempt to open a connection, after err. The caller holds
// s.mu.
func (s *stream) pause(err error) time.Duration {
	s.tries++
	most := retryMax
	if len(s.durables) == 0 {
		most = retryHeld
	}
	pause := time.Duration(0)
	if s.tries > 1 {
		pause = min(most, retryMin<<min(s.tries-2, 10))
		pause -= rand.N(pause/2 + 1)
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		pause = max(pause, min(e.RetryAfter, maxRetryAfter))
	}
	return pause
}

// locksOf returns the locks that m grants to an acquire.
func locksOf(m *wire.StreamMessage) []wire.Lock {
	if m.Kind == wire.MessageLock && m.HasSeen {
		return []wire.Lock{m.Lock}
	}
	return m.Locks
}

// ignored is a request whose answer does not matter.
type ignored struct{}

func (ignored) receive(*link, *wire.StreamMessage) (last bool, err error) { return true, nil }

func (ignored) lost(error) {}

// lockOf returns the lock in a message.
func lockOf(l *wire.Lock) api.Lock {
	lock := api.Lock{
		ID: l.ID, Name: l.Name, IP: l.IP,
		ExpiresAt: l.ExpiresAt, CreatedAt: l.CreatedAt, UpdatedAt: l.UpdatedAt,
		FencingToken: l.FencingToken, Owner: l.Owner, Waiters: l.Waiters,
	}
	if l.Creator != nil {
		lock.Creator = *l.Creator
	}
	return lock
}

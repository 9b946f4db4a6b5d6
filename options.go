package relukko

import (
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Option configures a [Mutex], a [Pool] or a [MultiMutex].
type Option func(*options)

type options struct {
	ttl      time.Duration
	creator  string
	log      *slog.Logger
	backOff  func() backoff.BackOff
	patience time.Duration // until the backend says who holds the lock; 0: backOff decides
	onLost   func(*LostError)
	onWait   func(Waiting)
	handoff  bool
	reason   string
	priority int
	maxHold  time.Duration // 0: no limit
}

// WithTTL sets the length of the lease that each heartbeat requests: whole seconds, from 1 s to 365
// days, or else every Lock fails. The default is 1 min. A longer TTL survives longer outages: up to
// half of it loses nothing. A shorter one frees the name sooner after a crash, which costs the TTL
// and a tenth of it, at least 1 s, on our own backend, and the TTL and about 3 min on others.
func WithTTL(d time.Duration) Option { return func(o *options) { o.ttl = d } }

// WithCreator sets the creator of the lock, by which others see who holds it: at most 255 bytes of
// UTF-8 without control characters, or else every Lock fails. The default, also for "", is
// user@host/pid. Each Lock appends a fresh mark, such as " #k3v9x2m4q7ab".
func WithCreator(s string) Option { return func(o *options) { o.creator = s } }

// WithReason adds to the creator why the lock is held, for others to read: "user@host/pid (text)".
// The text has at most 255 bytes of UTF-8 without control characters, or else every Lock fails. The
// default, also for "", is to add nothing.
func WithReason(text string) Option { return func(o *options) { o.reason = text } }

// WithPriority sets the priority among those who wait for a lock: from -10 to 10, or else every
// Lock fails. Each step is worth a head start of 10 min in the queue, so nobody waits forever. The
// default is 0. A backend without a queue of its own ignores it, and so do the goroutines that
// share a [Mutex]: they are served in the order in which they came.
func WithPriority(n int) Option { return func(o *options) { o.priority = n } }

// WithMaxHold limits how long a lock is held: the guarded context ends d after the acquisition,
// with [ErrHeldTooLong] as its cause. The lock stays held, and its lease is renewed, until Unlock,
// which returns what it returns otherwise. The default, also for 0, is no limit; with a negative d
// every Lock fails.
func WithMaxHold(d time.Duration) Option { return func(o *options) { o.maxHold = d } }

// WithLogger sets the logger. Retries, and each minute of waiting for a held lock, are logged at
// info; losses, and locks that stay on the backend for longer than they should, at warn or error.
// The default, also for nil, is not to log.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithBackOff sets the pauses of Lock and TryLock between attempts while the backend cannot be
// reached or is overloaded. Each call of Lock calls new once for each such outage, and fails when
// the policy stops. A longer Retry-After takes precedence, up to 5 min. The default, also for nil,
// begins with about 50 ms, rises to at most 3 s, and fails after a minute in which the backend has
// not said who holds the lock. While another client holds the lock, only the context limits the
// wait.
func WithBackOff(new func() backoff.BackOff) Option {
	return func(o *options) {
		if new != nil {
			o.backOff, o.patience = new, 0
		}
	}
}

// WithOnLost sets a function that is called once for each loss, on a goroutine of its own, after
// the contexts of the lock are done. A loss that only Unlock discovers is reported too. The
// default, also for nil, is to call nothing.
func WithOnLost(f func(*LostError)) Option { return func(o *options) { o.onLost = f } }

// Waiting describes a Lock that waits for another holder.
type Waiting struct {
	Holder *api.Lock // the lock that holds the name, or one of several names; nil if unknown
	Ahead  int       // the number of waiters for that name that are served first; -1 if unknown
	Since  time.Time // when Lock was called
}

// WithOnWait sets a function that is called when a Lock has waited for 250 ms, or up to 1 s later
// while the holder is not known, and again whenever the holder or the place in the queue changes,
// at most about once a second. It runs on another goroutine. The calls for one Lock do not overlap,
// and Lock may return before the last one ends. A backend without our extensions does not push the
// new holder, so a change is known only after the next request. The default, also for nil, is to
// call nothing.
func WithOnWait(f func(Waiting)) Option { return func(o *options) { o.onWait = f } }

func newOptions(opts []Option) options {
	o := options{
		ttl:      time.Minute,
		log:      slog.New(slog.DiscardHandler),
		backOff:  defaultBackOff,
		patience: time.Minute,
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.creator == "" {
		o.creator = defaultCreator()
	}
	return o
}

// complete checks the options, and adds the reason to the creator.
func (o *options) complete() error {
	if err := checkText("creator", o.creator); err != nil {
		return err
	}
	if o.reason != "" {
		if err := checkText("reason", o.reason); err != nil {
			return err
		}
		o.creator = wire.WithReason(o.creator, o.reason)
	}
	if o.priority < -wire.MaxPriority || o.priority > wire.MaxPriority {
		return fmt.Errorf("the priority must be from %d to %d, not %d",
			-wire.MaxPriority, wire.MaxPriority, o.priority)
	}
	if o.maxHold < 0 {
		return fmt.Errorf("the longest time to hold the lock is negative: %v", o.maxHold)
	}
	if o.ttl < time.Second || o.ttl > maxTTL || o.ttl%time.Second != 0 {
		return fmt.Errorf("the TTL must be whole seconds from 1 s to 365 days, not %v", o.ttl)
	}
	return nil
}

// Limits of our own backend.
const (
	maxTTL  = 365 * 24 * time.Hour
	maxText = 255 // bytes
)

func checkText(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty", what)
	case len(s) > maxText:
		return fmt.Errorf("the %s has %d bytes, at most %d are allowed", what, len(s), maxText)
	case !utf8.ValidString(s):
		return fmt.Errorf("the %s is not valid UTF-8", what)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("the %s has a control character", what)
	}
	return nil
}

func defaultBackOff() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0), // patience ends it
	)
}

// defaultCreator returns user@host/pid, as far as these are known.
func defaultCreator() string {
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	creator := fmt.Sprintf("%s@%s/%d", name, host, os.Getpid())
	if checkText("creator", creator) != nil {
		return fmt.Sprintf("%d@localhost/%d", os.Getuid(), os.Getpid())
	}
	return creator
}

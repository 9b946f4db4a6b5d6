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
)

// Option configures a [Mutex].
type Option func(*options)

type options struct {
	ttl      time.Duration
	creator  string
	log      *slog.Logger
	backOff  func() backoff.BackOff
	patience time.Duration // how long Lock stands a backend that answers nothing useful; 0: as long as backOff says
	onLost   func(*LostError)
	onWait   func(Waiting)
	handoff  bool
}

// WithTTL sets the lease that every heartbeat asks for; the default is 1 min.
// After a crash the name stays taken for this time plus the backend's grace, and
// an outage shorter than half of it loses nothing.
// Whole seconds, from 1 s to 365 days; with anything else every Lock fails.
func WithTTL(d time.Duration) Option { return func(o *options) { o.ttl = d } }

// WithCreator sets what others see as the holder; the default, also for "", is
// user@host/pid. Each Lock appends a mark of its own (" #k3v9x2m4q7ab").
// At most 255 bytes of UTF-8 without control characters; with anything else
// every Lock fails.
func WithCreator(s string) Option { return func(o *options) { o.creator = s } }

// WithLogger sets where the mutex logs what it rides out or does behind the
// caller's back: failed renewals, losses, cleanups. The default, also for nil,
// is silent.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithBackOff sets how an acquiring Lock or TryLock waits out a backend that
// cannot be reached or answers 429 or 5xx: new is called once for each such
// phase, and when its policy stops, so does Lock. A longer Retry-After is
// honoured, up to 5 min. The default, also for nil, pauses for about 50 ms at
// first and 3 s at most, and gives up after a minute without a useful answer.
// Waiting for a lock that is held has no limit but the context's.
func WithBackOff(new func() backoff.BackOff) Option {
	return func(o *options) {
		if new != nil {
			o.backOff, o.patience = new, 0
		}
	}
}

// WithOnLost has f called with the [*LostError] of every loss: once, on a
// goroutine of its own, after the contexts of the lock are done. A loss that
// only Unlock finds out is told too.
func WithOnLost(f func(*LostError)) Option { return func(o *options) { o.onLost = f } }

// Waiting describes a Lock that waits.
type Waiting struct {
	Holder *api.Lock // the lock that holds the name; nil where that is not known
	Ahead  int       // how many others are served first; -1 where that is not known
	Since  time.Time // when Lock was called
}

// WithOnWait sets a function that is called when a Lock has waited for 250 ms,
// and again on each change.
// The calls for one Lock come one after the other, on a goroutine of their own,
// which Lock does not wait for when it returns. On a backend without our
// extensions a change of holder is noticed when Lock asks again.
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

func (o *options) check(name string) error {
	if err := checkText("name", name); err != nil {
		return err
	}
	if err := checkText("creator", o.creator); err != nil {
		return err
	}
	if o.ttl < time.Second || o.ttl > maxTTL || o.ttl%time.Second != 0 {
		return fmt.Errorf("the TTL must be whole seconds from 1 s to 365 days, not %v", o.ttl)
	}
	return nil
}

const maxTTL = 365 * 24 * time.Hour // what our own backend takes as a lease

const maxText = 255 // bytes; what our own backend takes as a name

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

// defaultCreator is user@host/pid, as far as the system tells.
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

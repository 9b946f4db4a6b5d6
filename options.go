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
	patience time.Duration // for a backend without a useful answer; 0: backOff decides
	onLost   func(*LostError)
	onWait   func(Waiting)
	handoff  bool
}

// WithTTL sets the lease that each heartbeat requests. The default is 1 min. After a crash the name
// stays taken for the TTL and the backend's grace. An outage shorter than half the TTL loses
// nothing. The TTL must be whole seconds, from 1 s to 365 days, or each Lock fails.
func WithTTL(d time.Duration) Option { return func(o *options) { o.ttl = d } }

// WithCreator sets the name of the holder that others see. The default, also for "", is
// user@host/pid. Each Lock appends a fresh mark, such as " #k3v9x2m4q7ab". The creator must be at
// most 255 bytes of UTF-8 without control characters, or each Lock fails.
func WithCreator(s string) Option { return func(o *options) { o.creator = s } }

// WithLogger sets the logger for failed renewals, losses, and cleanups in the background. The
// default, also for nil, is not to log.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.log = l
		}
	}
}

// WithBackOff sets the pauses of Lock and TryLock between attempts while the backend cannot be
// reached, or responds with 429 or 5xx. They call new once for each such outage, and give up when
// the policy stops. A longer Retry-After is honoured, up to 5 min. The default, also for nil,
// begins with about 50 ms, rises to at most 3 s, and gives up after a minute without a useful
// answer. While another client holds the lock, only the context limits the wait.
func WithBackOff(new func() backoff.BackOff) Option {
	return func(o *options) {
		if new != nil {
			o.backOff, o.patience = new, 0
		}
	}
}

// WithOnLost sets a function that is called once for each loss, on a goroutine of its own, after
// the contexts of the lock are done. A loss that only Unlock discovers counts, too.
func WithOnLost(f func(*LostError)) Option { return func(o *options) { o.onLost = f } }

// Waiting describes a Lock that waits.
type Waiting struct {
	Holder *api.Lock // the lock that holds the name; nil if unknown
	Ahead  int       // the number of waiters that are served first; -1 if unknown
	Since  time.Time // when Lock was called
}

// WithOnWait sets a function that is called when a Lock has waited for 250 ms, and again on each
// change. The calls for one Lock do not overlap. They run on another goroutine, and Lock may return
// before the last call ends. On a backend without our extensions, a change of holder is known when
// Lock sends its next request.
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

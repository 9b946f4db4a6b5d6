package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/internal/tasks"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

type kind int

const (
	isLock   kind = iota // about the lock id; answered by that lock
	isCreate             // answered by a lock of that name
	isList               // answered by an array of locks
	isHealth             // answered by anything
	isCallOff
)

const (
	attemptTime = 5 * time.Second  // one attempt, from dialing to the last byte of the answer
	listTime    = 60 * time.Second // of a List, whose answer may be large
	retryTime   = time.Minute      // all attempts of a call whose context has no deadline

	maxAnswer      = 1 << 20  // bytes
	maxListAnswer  = 64 << 20 // bytes
	maxErrorAnswer = 64 << 10 // bytes that are read of a body that comes with an error
)

// call is one call of a public method, with all its attempts.
type call struct {
	verb, id, name string // what is asked, of what: one of id and name, or none
	kind           kind
	method, path   string // the path behind the id
	once           bool   // asking twice may do it twice
	wait           time.Duration
	body           []byte // stays as it is once the first attempt has begun
	creator        string
	like           wire.Lock // what the answer will resemble
	bad            error     // why k cannot be asked

	lock Lock // the answer
	list []Lock

	cancel     context.CancelFunc // of the attempt under way; guarded by calls.mu
	untilClose bool               // ends when Close begins
	first      attempt
	buffer     [192]byte // of body, where it fits
}

// op says what is asked, for errors.
func (k *call) op() string {
	switch {
	case k.kind == isCallOff:
		return k.verb + " " + wire.Printable(k.name, maxMessage)
	case k.name != "":
		return k.verb + " " + strconv.Quote(k.name)
	case k.kind == isLock:
		if _, ok := wire.ParseID(k.id); !ok {
			return k.verb + " " + strconv.Quote(wire.Printable(k.id, 64))
		}
		return k.verb + " " + k.id
	}
	return k.verb
}

// limits are the time and the size of one attempt.
func (k *call) limits() (time.Duration, int) {
	if k.kind == isList {
		return listTime, maxListAnswer
	}
	return attemptTime + k.wait, maxAnswer
}

// do makes the attempts of k.
func (c *Client) do(ctx context.Context, k *call) error {
	if err := c.calls.begin(ctx, k); err != nil {
		return &failure{op: k.op(), err: err, notSent: true}
	}
	defer c.calls.end(k)
	if c.trusted {
		k.trust()
		return nil
	}
	if k.bad != nil {
		return &failure{op: k.op(), err: k.bad, notSent: true}
	}
	begin := time.Now()
	err := c.attempt(ctx, k, &k.first)
	if err == nil || k.once || !Transient(err) || tasks.IsOnce(ctx) {
		return err
	}
	return c.retry(ctx, k, begin, err)
}

// retry repeats k, whose first attempt began at begin and failed with err,
// until it succeeds, fails for good or runs out of time.
func (c *Client) retry(ctx context.Context, k *call, begin time.Time, err error) error {
	end, hasEnd := ctx.Deadline()
	if !hasEnd {
		end = begin.Add(retryTime)
	}
	waits := retryWaits()
	maybe := false // an attempt so far may have done what was asked
	for {
		maybe = maybe || mayHaveDone(err)
		wait := waits.NextBackOff()
		if e, ok := errors.AsType[*Error](err); ok {
			wait = max(wait, e.RetryAfter)
		}
		if wait >= time.Until(end) {
			return err
		}
		if stop := c.calls.sleep(ctx, wait); stop != nil {
			return &failure{op: k.op(), err: after(stop, err), notSent: !maybe}
		}
		last := err
		c.log.LogAttrs(ctx, slog.LevelDebug, "relukko: trying again", slog.Any("err", err), slog.Duration("after", wait))
		if err = c.attempt(ctx, k, new(attempt)); err == nil {
			return nil
		}
		switch e := err.(type) {
		case *Error:
			e.MaybeDone = maybe
		case *failure:
			e.notSent = e.notSent && !maybe
			if !e.transient && ctx.Err() != nil {
				e.err = after(e.err, last)
			}
		}
		if !Transient(err) {
			return err
		}
	}
}

// mayHaveDone reports whether the attempt that failed with err may have been
// carried out.
func mayHaveDone(err error) bool {
	if e, ok := err.(*Error); ok {
		return failedStatus(e.Status)
	}
	return !NoEffect(err)
}

// retryWaits are 50 ms, 100 ms, … 2 s, each up to a half shorter or longer, but never above 2 s.
func retryWaits() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxInterval(2*time.Second*2/3),
		backoff.WithMaxElapsedTime(0),
	)
}

// retryAfter reads the header Retry-After: seconds, or a date, which is
// compared with the answer's own Date where it has one, since the backend's
// clock need not be ours. 0 where there is none that makes sense.
func retryAfter(h http.Header) time.Duration {
	s := strings.TrimSpace(h.Get("Retry-After"))
	if s == "" {
		return 0
	}
	const most = 1<<63 - 1
	if strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n > int64(most/time.Second) {
			return most
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(at.Sub(now), 0)
}

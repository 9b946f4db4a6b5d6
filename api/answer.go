package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// badAnswer is an answer that came whole and is not what was asked for.
type badAnswer struct{ error }

// decode reads the answer to k from body, whose end is as in transport.read.
func (k *call) decode(body []byte, end error) error {
	if end == errTooLong {
		return badAnswer{end}
	}
	if end != nil {
		return end
	}
	switch k.kind {
	case isLock, isCreate:
		l, err := wire.DecodeLock(body, &k.like)
		if err != nil {
			return badAnswer{fmt.Errorf("the answer is not a lock: %w", err)}
		}
		k.lock = lockOf(&l)
	case isReport:
		if err := k.report(body); err != nil {
			return badAnswer{fmt.Errorf("the answer is not what was asked for: %w", err)}
		}
	case isList:
		if err := k.decodeList(body); err != nil {
			return badAnswer{fmt.Errorf("the answer is not a list of locks: %w", err)}
		}
	}
	switch l := &k.lock; {
	case k.kind == isLock && l.ID != k.id:
		return badAnswer{fmt.Errorf("the answer is another lock: %s", l.ID)}
	case k.kind == isCreate && l.Name != k.name:
		return badAnswer{fmt.Errorf("the answer is another lock: %q", l.Name)}
	case k.kind == isCreate && !l.ExpiresAt.After(l.CreatedAt):
		return badAnswer{errors.New("the answer is a lock that expires before it was created")}
	}
	return nil
}

func (k *call) decodeList(body []byte) error {
	k.list = []Lock{}
	return wire.DecodeLocks(body, func(l *wire.Lock) {
		if k.name == "" || k.name == l.Name {
			k.list = append(k.list, lockOf(l))
		}
	})
}

// accept reads the answer to k. Its error is an *Error where the answer came
// whole and is not what was asked for.
func (t *transport) accept(k *call, a *attempt, resp *http.Response) error {
	allowed, size := k.limits()
	if k.copy != nil {
		return k.copy(&progress{resp.Body, a.stall, allowed})
	}
	err := t.read(resp.Body, size, k.decode)
	if _, ok := err.(badAnswer); ok {
		return &Error{Op: k.op(), Status: resp.StatusCode, Message: t.clean(err.Error())}
	}
	return err
}

// progress is a reader that resets a timer whenever something comes.
type progress struct {
	io.Reader
	timer  *time.Timer
	within time.Duration
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if n > 0 {
		p.timer.Reset(p.within)
	}
	return n, err
}

// refusal makes an *Error of an answer that does not promise what was asked
// for. It returns another error where the body decides what the answer means,
// and breaks off.
func (t *transport) refusal(k *call, resp *http.Response) error {
	e := &Error{
		Op: k.op(), Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header),
		ours: k.kind == isReport,
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		e.Message = "the answer switches to another protocol"
		return e // its body is an open connection
	}
	return t.read(resp.Body, maxErrorAnswer, func(body []byte, end error) error {
		if end == nil {
			e.read(body, k.kind == isLock)
		}
		switch {
		case resp.StatusCode/100 == 3:
			e.Message = "an answer that redirects is not followed"
			if to, err := resp.Location(); err == nil {
				to.User = nil
				e.Message = "not followed, since the API key would be sent along: " + to.String()
			}
		case end == nil:
		case goneStatus(e.Status) && end != errTooLong:
			return end
		default:
			e.Message = string(body)
		}
		e.Message = t.clean(e.Message)
		return e
	})
}

// read reads the body of an answer that is not a 2xx. oneLock: what was asked
// is about one lock.
func (e *Error) read(body []byte, oneLock bool) {
	said := wire.DecodeError(e.Status, body)
	e.Message, e.Own = said.Message, said.Own
	if said.Holder != nil {
		holder := lockOf(said.Holder)
		e.Holder = &holder
	}
	e.oneLock = oneLock
}

// retryAfter reads the header Retry-After: seconds, or a date, which is
// compared with the answer's own Date where it has one, since the backend's
// clock need not be ours. It returns 0 where there is none that makes sense.
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

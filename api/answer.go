package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// badAnswer is an answer that came whole and is not what was asked for.
type badAnswer struct{ error }

// success reports whether status promises what was asked for.
func (k *call) success(status int) bool {
	if k.kind == isCallOff {
		return status == http.StatusNoContent
	}
	return status/100 == 2
}

// decode takes the answer to k from body, whose end is as in read.
func (k *call) decode(body []byte, end error) error {
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
	case isList:
		k.list = []Lock{}
		err := wire.DecodeLocks(body, func(l *wire.Lock) { k.list = append(k.list, lockOf(l)) })
		if err != nil {
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

// accept takes the answer to k. Its error is an *Error where the answer came
// whole and is not what was asked for.
func (w *transport) accept(k *call, resp *http.Response) error {
	_, size := k.limits()
	err := w.read(resp.Body, size, k.decode)
	if _, ok := err.(badAnswer); ok {
		return &Error{Op: k.op(), Status: resp.StatusCode, Message: w.clean(err.Error())}
	}
	return err
}

// refusal makes an *Error of an answer that does not promise what was asked
// for. It is another error where the body decides what the answer means, and
// breaks off.
func (w *transport) refusal(k *call, resp *http.Response) error {
	e := &Error{Op: k.op(), Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		e.Message = "the answer switches to another protocol"
		return e // its body is an open connection
	case resp.StatusCode/100 == 3:
		e.Message = "an answer that redirects is not followed"
		if to, err := resp.Location(); err == nil {
			to.User = nil
			e.Message = w.clean("not followed, since the API key would be sent along: " + to.String())
		}
		return e
	}
	return w.read(resp.Body, maxErrorAnswer, func(body []byte, end error) error {
		switch {
		case end == nil:
			e.read(body, k.kind == isLock)
		case goneStatus(e.Status) && end != errTooLong:
			return end
		default:
			e.Message = string(body)
		}
		e.Message = w.clean(e.Message)
		return e
	})
}

var errTooLong = badAnswer{errors.New("the answer is too long")}

// read hands r to use, which must not keep it: all of it, or its first limit
// bytes and errTooLong, or what came before the error.
func (w *transport) read(r io.Reader, limit int, use func(body []byte, end error) error) error {
	buf := w.buffer.Get().(*[]byte)
	b := (*buf)[:0]
	defer func() {
		if cap(b) <= keepBuffer {
			*buf = b
			w.buffer.Put(buf)
		}
	}()
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return use(b[:limit], errTooLong)
		case err == io.EOF:
			return use(b, nil)
		case err != nil:
			return use(b, err)
		}
	}
}

const maxMessage = 256 // bytes of a message that end up in an error

// read makes e of the body of an answer that is not a 2xx. oneLock: what was
// asked is about one lock.
func (e *Error) read(body []byte, oneLock bool) {
	said := wire.DecodeError(e.Status, body)
	e.Message = said.Message
	if said.Holder != nil {
		holder := lockOf(said.Holder)
		e.Holder = &holder
	}
	e.gone = said.Own && oneLock && goneStatus(e.Status)
}

func goneStatus(status int) bool {
	return status == http.StatusNotFound || status == http.StatusUnprocessableEntity
}

// clean makes a text from outside fit for an error: short, on one line, and
// without what is secret, should that have been sent back.
func (w *transport) clean(s string) string {
	for _, secret := range w.secrets {
		s = strings.ReplaceAll(s, secret, "[secret]")
	}
	return wire.Printable(s, maxMessage)
}

// cleanError is clean for an error. Only one that tells a secret loses its chain.
func (w *transport) cleanError(err error) error {
	text := err.Error()
	for _, secret := range w.secrets {
		if strings.Contains(text, secret) {
			return &cleaned{text: w.clean(text)}
		}
	}
	if short := wire.Printable(text, 2*maxMessage); short != text {
		return &cleaned{text: short, err: err}
	}
	return err
}

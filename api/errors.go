package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What a failed call was, by kind.
var (
	// ErrGone: there is no such lock any more, as the backend itself said.
	ErrGone = errors.New("relukko: the lock is gone")
	// ErrHeld: somebody holds the name.
	ErrHeld = errors.New("relukko: the lock is held")
	// ErrRefused: the request or the API key is wrong; asking again is no use.
	ErrRefused = errors.New("relukko: refused")
	// ErrClosed: the client is closed, or is closing.
	ErrClosed = errors.New("relukko: client closed")
	// ErrNoWatch: this client does not watch ([WithoutWatch], trust mode).
	ErrNoWatch = errors.New("relukko: client does not watch")
)

// Error is an answer, of the backend or of something before it, that is not
// what was asked for. It never holds the API key.
//
// errors.Is knows it as
//   - [ErrGone]: 404 or 422 to a request about one lock, with the backend's
//     own body: a JSON object of exactly "status" (404 or 422) and "message".
//     With any other body they come from a proxy or a wrong path, and say
//     nothing about the lock.
//   - [ErrHeld]: 409
//   - [ErrRefused]: 400, 401, 403
type Error struct {
	Op      string // what was asked: `create lock "robot-arm-1"`, `delete lock 950daa20-…`
	Status  int    // the HTTP status; 2xx where the body was not what was asked for
	Message string // what the answer said, without control characters, at most 256 bytes
	Holder  *Lock  // with 409 the lock that holds the name, where the backend says; else nil

	// RetryAfter is how long the backend asked to be left alone; 0 where it did not ask.
	RetryAfter time.Duration

	// MaybeDone: an earlier attempt of this same call got no answer, or a 5xx,
	// so it may itself have done what was asked. A delete that ends "gone" with
	// MaybeDone has most likely deleted the lock.
	MaybeDone bool

	// Own: the body is the backend's own. Any other answer comes from something
	// on the way, such as a proxy whose backend restarts.
	Own bool

	gone bool // the backend itself says that the lock is gone
}

// Error reads `relukko: create lock "robot-arm-1": 403 Forbidden: wrong key`.
func (e *Error) Error() string {
	return "relukko: " + e.Op + ": " + e.answer()
}

func (e *Error) answer() string {
	s := strconv.Itoa(e.Status)
	if text := http.StatusText(e.Status); text != "" {
		s += " " + text
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Is reports whether e is of the kind target.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrGone:
		return e.gone
	case ErrHeld:
		return e.Status == http.StatusConflict
	case ErrRefused:
		return e.Status == http.StatusBadRequest || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	}
	return false
}

// Transient reports whether the same request may succeed later: after network
// errors, answers that were cut off, attempts that timed out, and the statuses
// 429, 500, 502, 503 and 504. It is false for the end of the caller's context,
// for a certificate that does not verify, for any other *[Error], for
// [ErrClosed], and for nil.
func Transient(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.transient
	}
	e, ok := errors.AsType[*Error](err)
	return ok && transientStatus(e.Status)
}

// NoEffect reports whether the call that ended with err certainly had no
// effect. Either no attempt reached a backend: dial, DNS and TLS handshake
// errors, a context that ended before there was a connection, arguments
// refused here, a closed client. Or the backend answered that it did nothing:
// 400, 401, 403, 404, 405, 409, 410, 413, 422, 429. It is false where there is
// any doubt, and for nil.
//
// With [WithHTTPClient] and a Transport that is not an *http.Transport the
// first kind is recognised only if it calls the hooks of net/http/httptrace.
func NoEffect(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.notSent
	}
	e, ok := errors.AsType[*Error](err)
	return ok && !e.MaybeDone && refusedStatus(e.Status)
}

func transientStatus(status int) bool {
	return status == http.StatusTooManyRequests || failedStatus(status)
}

// failedStatus tells the statuses after which the request may or may not have
// been carried out.
func failedStatus(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// refusedStatus tells the statuses that say that nothing was done.
func refusedStatus(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge,
		http.StatusUnprocessableEntity, http.StatusTooManyRequests:
		return true
	}
	return false
}

// failure is a call that ended without an answer.
type failure struct {
	op        string // as in Error
	err       error
	transient bool // what Transient says
	notSent   bool // what NoEffect says
}

func (f *failure) Error() string {
	return "relukko: " + f.op + ": " + strings.TrimPrefix(f.err.Error(), "relukko: ")
}

func (f *failure) Unwrap() error { return f.err }

// over says that ctx has ended: by its error, and by its cause where that is another.
func over(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// after adds, in words only, what went wrong before err did.
func after(err, last error) error {
	text := last.Error()
	switch last := last.(type) {
	case *failure:
		text = last.err.Error()
	case *Error:
		text = last.answer()
	}
	return fmt.Errorf("%w (before that: %s)", err, text)
}

// attemptTimeout is one attempt that took too long. It is no
// context.DeadlineExceeded, which would be the caller's own.
type attemptTimeout time.Duration

func (d attemptTimeout) Error() string { return "no answer within " + time.Duration(d).String() }
func (d attemptTimeout) Timeout() bool { return true }

// unverified reports whether err is about a certificate that does not verify:
// no later attempt will like it better.
func unverified(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

// cleaned is an error whose text was not fit to be shown.
type cleaned struct {
	text string
	err  error // nil where it must not be reached
}

func (c *cleaned) Error() string { return c.text }
func (c *cleaned) Unwrap() error { return c.err }

package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const maxMessage = 256 // bytes of a message that end up in an error

// What a failed call was, by kind.
var (
	// ErrGone: there is no such lock any more, as the backend itself said; or,
	// from [Client.Find], nobody holds the name.
	ErrGone = errors.New("relukko: the lock is gone")
	// ErrHeld: another client holds the name.
	ErrHeld = errors.New("relukko: the lock is held")
	// ErrRefused: the request or the API key is wrong, as the backend itself
	// said. The same request will not succeed later.
	ErrRefused = errors.New("relukko: refused")
	// ErrClosed: the client is closed, or is closing.
	ErrClosed = errors.New("relukko: client closed")
	// ErrNoWatch: this client does not watch ([WithoutWatch], trust mode).
	ErrNoWatch = errors.New("relukko: client does not watch")
	// ErrNoAPIKey: [FromEnv] found no API key.
	ErrNoAPIKey = errors.New("relukko: no API key")
)

// Error is an answer, of the backend or of something before it, that is not
// what was asked for. It never holds the API key.
//
// errors.Is knows it as
//   - [ErrGone]: 404 or 422 with Own, to a request about one lock
//   - [ErrHeld]: 409
//   - [ErrRefused]: 400, 401 or 403 with Own
type Error struct {
	Op      string // what was asked: `create lock "robot-arm-1"`, `delete lock 950daa20-…`
	Status  int    // the HTTP status; 2xx where the body was not what was asked for
	Message string // what the answer said, without control characters, at most 256 bytes
	Holder  *Lock  // with 409 the lock that holds the name, where the backend says; else nil

	// Own: the answer is the backend's own refusal. Its body is a JSON object of
	// exactly "status" (equal to the HTTP status), "message" and, perhaps,
	// "lock". Any other answer came from something on the way, or from a path
	// that is not the backend's, and says nothing about locks and keys.
	Own bool

	// RetryAfter is how long the backend asked to wait before the next request; 0
	// where it did not ask.
	RetryAfter time.Duration

	// MaybeDone: this same call may already have done what was asked. An earlier
	// attempt got no answer, or a 5xx, or the request may have been repeated on
	// its way. A delete that ends "gone" with MaybeDone has most likely deleted
	// the lock.
	MaybeDone bool

	oneLock bool // what was asked is about one lock
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
		return e.Own && e.oneLock && goneStatus(e.Status)
	case ErrHeld:
		return e.Status == http.StatusConflict
	case ErrRefused:
		return e.Own && (e.Status == http.StatusBadRequest || keyStatus(e.Status))
	}
	return false
}

// refusesKey reports whether the backend itself refuses the API key.
func (e *Error) refusesKey() bool { return e.Own && keyStatus(e.Status) }

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
// errors, a context that ended before there was a connection, arguments that
// are not valid, no API key, a closed client. Or the backend itself says that
// nothing was done (400, 401, 403, 404, 405, 409, 410, 413, 422 or 429, with
// [Error.Own]) about the only time that the request was sent. It is false in all
// other cases, also for what something on the way answers, and for nil.
//
// See [WithHTTPClient] for transports of which less is known.
func NoEffect(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.notSent
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Own && !e.MaybeDone && refusedStatus(e.Status)
}

func goneStatus(status int) bool {
	return status == http.StatusNotFound || status == http.StatusUnprocessableEntity
}

func keyStatus(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

func transientStatus(status int) bool {
	return status == http.StatusTooManyRequests || failedStatus(status)
}

// failedStatus reports whether the request may or may not have been carried out.
func failedStatus(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// refusedStatus reports whether the answer says that nothing was done.
func refusedStatus(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusConflict, http.StatusGone,
		http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity,
		http.StatusTooManyRequests:
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

// over returns the error of ctx, which has ended, and its cause where that is another.
func over(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// LastAttempt returns how the last attempt of a call failed when the end of its
// context ended the call after that; nil where no attempt had failed. errors.Is
// does not find it in err.
func LastAttempt(err error) error {
	if e, ok := errors.AsType[*endedError](err); ok {
		return e.last
	}
	return nil
}

// endedError is the end of a context after an attempt had failed with last.
type endedError struct{ err, last error }

func (e *endedError) Error() string {
	text := e.last.Error()
	switch last := e.last.(type) {
	case *failure:
		text = last.err.Error()
	case *Error:
		text = last.answer()
	}
	return fmt.Sprintf("%v (before that: %s)", e.err, text)
}

func (e *endedError) Unwrap() error { return e.err }

// attemptTimeout is one attempt that took too long. It is no
// context.DeadlineExceeded, which would be the caller's own.
type attemptTimeout time.Duration

func (d attemptTimeout) Error() string { return "no answer within " + time.Duration(d).String() }
func (d attemptTimeout) Timeout() bool { return true }

// unverified reports whether err is about a certificate that does not verify,
// which no later attempt changes.
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

// timedOut reports whether the attempt that failed with err got no answer in time.
func timedOut(err error) bool {
	_, ok := errors.AsType[attemptTimeout](err)
	return ok
}

// cleaned is an error whose text was not fit to be shown.
type cleaned struct {
	text string
	err  error // nil where it must not be reached
}

func (c *cleaned) Error() string { return c.text }
func (c *cleaned) Unwrap() error { return c.err }

// explain adds what a network's error means, where its own text does not say it.
func explain(err error) error {
	if u, ok := err.(*url.Error); ok { // names the URL, which the caller knows
		err = u.Err
	}
	if err == io.EOF {
		return fmt.Errorf("the connection ended before an answer came: %w", err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("the other side does not speak TLS (is it http://?): %w", err)
	}
	if remedy := remedy(err); remedy != "" {
		return fmt.Errorf("%w (%s)", err, remedy)
	}
	return err
}

// remedy returns what to do about a certificate that does not verify, or "".
func remedy(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "to trust that authority, name a file with its certificate in REQUESTS_CA_BUNDLE"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the base URL must name the backend as its certificate does"
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if ok && invalid.Reason == x509.Expired {
		return "the backend needs a new certificate, or this machine's clock is wrong"
	}
	return ""
}

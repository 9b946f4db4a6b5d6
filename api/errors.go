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

	"gitlab.com/relukko/relukko-go/internal/wire"
)

const maxMessage = 256 // bytes of a message that end up in an error

// The kinds of errors, for errors.Is.
var (
	// ErrGone means that the backend itself says that there is no such lock, or, from
	// [Client.Find], that no lock holds the name.
	ErrGone = errors.New("relukko: the lock is gone")
	// ErrHeld means that another lock holds the name.
	ErrHeld = errors.New("relukko: the lock is held")
	// ErrRefused means that the backend itself says that the request or the API key is wrong. The
	// same request will not succeed later.
	ErrRefused = errors.New("relukko: refused")
	// ErrClosed means that the client is closed, or is closing.
	ErrClosed = errors.New("relukko: client closed")
	// ErrUnsupported means that the backend does not offer what was requested.
	ErrUnsupported = errors.New("relukko: the backend does not offer this")
	// ErrNoWatch means that this client has no WebSocket ([WithoutWatch], trust mode).
	ErrNoWatch = errors.New("relukko: client does not watch")
	// ErrNoAPIKey means that [FromEnv] found no API key.
	ErrNoAPIKey = errors.New("relukko: no API key")
)

// Error is a response, of the backend or of something on the way to it, that is not what was
// requested. It never contains the API key.
//
// errors.Is matches it with
//
//   - [ErrGone]: 404 or 422 with Own, for a request about one lock
//   - [ErrHeld]: 409
//   - [ErrRefused]: 400, 401 or 403 with Own
//   - [ErrUnsupported]: 404, 405 or 501 for a request that other backends do not know
type Error struct {
	Op      string // the request: `create lock "robot-arm-1"`, `delete lock 950daa20-…`
	Status  int    // the HTTP status; 2xx if the body was not as expected
	Message string // of the response, without control characters, at most 256 bytes
	Holder  *Lock  // with 409, the lock that holds the name; nil if unknown

	// Own reports whether the response is the backend's own refusal: its body is a JSON object with
	// exactly "status" (equal to the HTTP status), "message" and, optionally, "lock". Any other
	// response is from something on the way, or from a path that is not the backend's, and says
	// nothing about locks and keys.
	Own bool

	// RetryAfter is how long to wait before the next request; 0 if the response does not say.
	RetryAfter time.Duration

	// MaybeDone reports whether the request of this call may have been carried out before: an
	// earlier attempt had no response, or 500, 502, 503 or 504, or something on the way may have
	// repeated the request. A delete that fails with ErrGone and MaybeDone has most likely deleted
	// the lock.
	MaybeDone bool

	oneLock   bool // the request is about one lock
	ours      bool // the request is one that other backends do not know
	mayChange bool // the client has a function that may return another key later
}

// Error returns a text such as `relukko: create lock "robot-arm-1": 403 Forbidden: wrong key`.
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

// Is reports whether target is [ErrGone], [ErrHeld], [ErrRefused] or [ErrUnsupported] and e is of
// that kind.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrGone:
		return e.Own && e.oneLock && goneStatus(e.Status)
	case ErrHeld:
		return e.Status == http.StatusConflict
	case wire.ErrKeyMayChange:
		return e.refusesKey() && e.mayChange
	case ErrRefused:
		return e.Own && (e.Status == http.StatusBadRequest || keyStatus(e.Status))
	case ErrUnsupported:
		return e.ours && (e.Status == http.StatusNotFound ||
			e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented)
	}
	return false
}

// refusesKey reports whether the backend itself refuses the API key, or may do so: to a wrong key
// it responds with 429 if the client's address has sent many.
func (e *Error) refusesKey() bool {
	return e.Own && (keyStatus(e.Status) || e.Status == http.StatusTooManyRequests)
}

// Transient reports whether the same request may succeed later. It is true for network errors,
// broken-off responses, attempts that timed out, and the statuses 429, 500, 502, 503 and 504. It is
// false for everything else: the end of the caller's context, a certificate that does not verify,
// other statuses, [ErrClosed], and nil.
func Transient(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.transient
	}
	e, ok := errors.AsType[*Error](err)
	return ok && transientStatus(e.Status)
}

// NoEffect reports whether the call that returned err certainly had no effect. It is true in two
// cases:
//
//   - No attempt got a connection: dial, DNS and TLS errors, a context that ended before, invalid
//     arguments, no API key, a closed client.
//   - The request was sent only once, and the backend itself ([Error.Own]) refused it with 400,
//     401, 403, 404, 405, 409, 410, 413, 422 or 429.
//
// It is false in all other cases, and for nil. [WithHTTPClient] says when less is known.
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

// failure is the error of a call that ended without a complete response.
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

// LastAttempt returns the failure of the last attempt before the call was ended by its context or
// by Shutdown. It returns nil if no attempt had failed, or err is no such error. errors.Is and
// errors.As do not find that failure in err.
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

package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// What a failed call was, by kind; see [Error] for the answers of a backend.
var (
	// ErrGone: there is no such lock (any more), as the backend itself said.
	ErrGone = errors.New("relukko: the lock is gone")
	// ErrHeld: somebody holds the name.
	ErrHeld = errors.New("relukko: the lock is held")
	// ErrRefused: the request or the API key is wrong; the same request will be refused again.
	ErrRefused = errors.New("relukko: refused")
	// ErrClosed: the client is closed or closing.
	ErrClosed = errors.New("relukko: client closed")
	// ErrNoWatch: this client does not watch ([WithoutWatch], trust mode).
	ErrNoWatch = errors.New("relukko: client does not watch")
)

// Error is an answer of the backend, or of something in between, that is not
// what was asked for. It never holds the API key.
//
// errors.Is knows it as
//   - [ErrGone]: 404 or 422 on a lock's id, with the backend's own body. A 404
//     or 422 with any other body comes from a proxy or a wrong path, and is
//     none of the three.
//   - [ErrHeld]: 409
//   - [ErrRefused]: 400, 401, 403
type Error struct {
	Op      string // what was asked: `create lock "robot-arm-1"`, `delete lock 950daa20-…`
	Status  int    // the HTTP status; 2xx where the answer was not what was asked for
	Message string // what the answer said, shortened to 256 bytes, without control characters
	Holder  *Lock  // 409: the lock that holds the name, where the backend says; else nil

	// RetryAfter is how long the backend asked to be left alone; 0 where it did not ask.
	RetryAfter time.Duration

	// MaybeDone: an earlier attempt of this same call got no answer, or a 5xx,
	// so it may itself have done it. A delete that ends "gone" with MaybeDone
	// has most likely deleted the lock.
	MaybeDone bool

	gone bool
}

// Error reads `relukko: create lock "robot-arm-1": 403 Forbidden: wrong key`.
func (e *Error) Error() string {
	s := fmt.Sprintf("relukko: %s: %d", e.Op, e.Status)
	if text := http.StatusText(e.Status); text != "" {
		s += " " + text
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Is reports whether e is of the kind target; see [Error].
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
// errors, answers that were cut off, attempts that timed out, and 429, 500,
// 502, 503 and 504. It is false for the end of the caller's own context, for a
// certificate that does not verify, for any other *[Error], for [ErrClosed],
// and for nil.
func Transient(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return transientStatus(e.Status)
	}
	var f *failure
	return errors.As(err, &f) && f.transient
}

// NotSent reports whether the request that ended with err certainly had no
// effect: no attempt reached a backend (dial, DNS and TLS handshake errors,
// arguments that were refused here, a closed client), or the backend's answer
// says that nothing was done (400, 401, 403, 404, 405, 409, 410, 413, 422,
// 429). It is false when in doubt, and for nil.
func NotSent(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return !e.MaybeDone && refusedStatus(e.Status)
	}
	var f *failure
	return errors.As(err, &f) && f.notSent
}

func transientStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func refusedStatus(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge,
		http.StatusUnprocessableEntity, http.StatusTooManyRequests:
		return true
	}
	return false
}

// failure is a call that ended without a usable answer.
type failure struct {
	op        string
	err       error
	transient bool
	notSent   bool
}

func (f *failure) Error() string { return "relukko: " + f.op + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

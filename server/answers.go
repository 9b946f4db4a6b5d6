package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
)

// Header values that are the same in every answer; nobody may change them.
var (
	jsonType     = []string{"application/json"}
	waitOffer    = []string{strconv.Itoa(maxWaitSeconds)}
	waitIsHeeded = []string{"wait"}
	callOffOffer = []string{"1"}
)

// offer says on an answer to a create how long this server would let one queue,
// and that it can call one off: a client may then break off a create at once.
func (s *Server) offer(w http.ResponseWriter) {
	h := w.Header()
	if s.has(ExtWait) {
		h["Relukko-Wait"] = waitOffer
	}
	if s.has(ExtCallOff) {
		h["Relukko-Call-Off"] = callOffOffer
	}
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone: nothing to be done about it
}

func (s *Server) writeLock(w http.ResponseWriter, r *http.Request, status int, lock *Lock) {
	waiters := -1
	if r.Method == http.MethodGet && s.has(ExtWaiters) {
		waiters = s.room.count(lock.Name)
	}
	writeJSON(w, status, appendLock(make([]byte, 0, 512), lock, s.has(ExtFencingToken), waiters))
}

// writeConflict answers a create whose name is held, by holder unless that is the zero Lock.
func (s *Server) writeConflict(w http.ResponseWriter, name string, holder *Lock) {
	b := appendError(make([]byte, 0, 768), http.StatusConflict, "lock "+strconv.Quote(name)+" is held")
	if holder.ID != "" && s.has(ExtHolder) {
		b = append(b[:len(b)-1], `,"lock":`...)
		b = append(appendLock(b, holder, s.has(ExtFencingToken), -1), '}')
	}
	writeJSON(w, http.StatusConflict, b)
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, appendError(nil, status, message))
}

func appendError(b []byte, status int, message string) []byte {
	b = append(b, `{"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, `,"message":`...)
	return append(appendString(b, message), '}')
}

// badRequest is an error that is the caller's.
type badRequest struct {
	status  int
	message string
}

func (e *badRequest) Error() string { return "relukko: " + e.message }

// fail answers a request that could not be carried out because of err.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var bad *badRequest
	switch {
	case errors.As(err, &bad):
		if bad.status == http.StatusRequestTimeout {
			w.Header().Set("Connection", "close")
		}
		writeError(w, bad.status, bad.message)
	case errors.Is(err, ErrGone):
		writeError(w, s.gone, "there is no such lock")
	case errors.Is(err, ErrCalledOff):
		writeError(w, http.StatusGone, "this create was called off")
	case errors.Is(err, ErrOutOfRange):
		writeError(w, http.StatusBadRequest, "expires_at would lie outside of the years 1 to 9999")
	case errors.Is(err, errFull):
		s.unavailable(w, "too many creates are waiting")
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		s.writeGone(w)
	case errors.Is(err, ErrUnavailable):
		s.log.Warn("the store is unavailable", "method", r.Method, "path", r.URL.Path, "error", err)
		s.unavailable(w, "the store is unavailable")
	default:
		s.log.Error("the store failed", "method", r.Method, "path", r.URL.Path, "error", err)
		writeError(w, http.StatusInternalServerError, "internal error")
	}
}

// writeGone answers a caller who seems to be gone, in case he has only closed his half of the connection.
func (s *Server) writeGone(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Retry-After", "0")
	h.Set("Connection", "close")
	writeError(w, http.StatusServiceUnavailable, "the connection was closed before there was an answer; nothing was done")
}

func (s *Server) unavailable(w http.ResponseWriter, message string) {
	w.Header().Set("Retry-After", "1")
	writeError(w, http.StatusServiceUnavailable, message)
}

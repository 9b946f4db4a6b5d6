package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Header values that are the same in every response. They must not be changed.
var (
	jsonType     = []string{"application/json"}
	waitOffer    = []string{wire.FormatWait(wire.MaxWait)}
	callOffOffer = []string{wire.CallOffOffered}
)

// offer says on a response to a create how long creates may wait, and that they can be called off.
func (a *api) offer(w http.ResponseWriter) {
	header := w.Header()
	if a.has(ExtWait) {
		header[wire.HeaderWait] = waitOffer
	}
	if a.has(ExtCallOff) {
		header[wire.HeaderCallOff] = callOffOffer
	}
}

// introduce says on a list of locks what serves it. Only clients with a key get to know.
func (a *api) introduce(w http.ResponseWriter) {
	header := w.Header()
	header[wire.HeaderVersion] = []string{version()}
	if a.storeKind != "" {
		header[wire.HeaderStore] = []string{a.storeKind}
	}
}

// wantsWaiters reports whether the request asks for the members waiters of locks. They come on
// request only, because some clients compare a lock that they read with the one that they created.
func (a *api) wantsWaiters(r *http.Request) bool {
	return a.has(ExtWaiters) && r.URL.RawQuery != "" && r.URL.Query().Get("waiters") == "1"
}

// writeLock writes a lock, which has the same members in every response.
func (a *api) writeLock(w http.ResponseWriter, status int, lock *store.Lock) {
	l := a.onWire(lock)
	writeJSON(w, status, wire.AppendLock(make([]byte, 0, 512), &l))
}

// writeConflict responds to a create whose name is held: by holder, unless that is the zero Lock.
func (a *api) writeConflict(w http.ResponseWriter, name string, holder *store.Lock) {
	var known *wire.Lock
	if holder.ID != "" && a.has(ExtHolder) {
		l := a.onWire(holder)
		known = &l
	}
	b := wire.AppendError(make([]byte, 0, 768), http.StatusConflict,
		"lock "+strconv.Quote(name)+" is held", known)
	writeJSON(w, http.StatusConflict, b)
}

// notFound responds to a request for a path that does not exist. Its body has a third member: with
// two alone, a 404 says that a lock is gone, which a client with a wrong base URL must not believe.
func (a *api) notFound(w http.ResponseWriter, r *http.Request) {
	b := wire.AppendError(nil, http.StatusNotFound, "there is nothing at "+r.URL.Path, nil)
	path, _ := json.Marshal(r.URL.Path) // strings always marshal
	b = append(append(b[:len(b)-1], `,"path":`...), path...)
	writeJSON(w, http.StatusNotFound, append(b, '}'))
}

// refuseClosing tells the client to come again immediately, on a new connection: there the next
// server may be up already.
func (a *api) refuseClosing(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		a.offer(w)
	}
	retryNow(w, "the server is shutting down")
}

// fail writes the response to a request that ended with err.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	var bad *wire.RequestError
	var body *requestError
	switch {
	case errors.As(err, &bad):
		writeError(w, http.StatusBadRequest, bad.Message)
	case errors.As(err, &body):
		if body.status == http.StatusRequestTimeout {
			w.Header().Set("Connection", "close")
		}
		writeError(w, body.status, body.message)
	case errors.Is(err, store.ErrGone):
		writeError(w, a.gone, "there is no such lock")
	case errors.Is(err, store.ErrCalledOff):
		writeError(w, http.StatusGone, "this create was called off")
	case errors.Is(err, store.ErrOutOfRange):
		writeError(w, http.StatusBadRequest, "expires_at would lie outside of the years 1 to 9999")
	case errors.Is(err, engine.ErrFull):
		retryLater(w, "too many creates are waiting")
	case errors.Is(err, engine.ErrClosing):
		a.refuseClosing(w, r)
	case errors.Is(err, engine.ErrClientGone),
		errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		// The client may have closed its half of the connection only.
		retryNow(w, "the connection was closed before there was an answer; nothing was done")
	case errors.Is(err, store.ErrUnavailable):
		a.Log.Warn("the store is unavailable",
			"method", r.Method, "path", r.URL.Path, "error", err)
		retryLater(w, "the store is unavailable")
	default:
		a.Log.Error("the store failed", "method", r.Method, "path", r.URL.Path, "error", err)
		writeError(w, http.StatusInternalServerError, "internal error")
	}
}

func isHeld(err error) bool { return errors.Is(err, store.ErrHeld) }

func retryNow(w http.ResponseWriter, message string) {
	h := w.Header()
	h.Set("Retry-After", "0")
	h.Set("Connection", "close")
	writeError(w, http.StatusServiceUnavailable, message)
}

func retryLater(w http.ResponseWriter, message string) {
	w.Header().Set("Retry-After", "1")
	writeError(w, http.StatusServiceUnavailable, message)
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, wire.AppendError(nil, status, message, nil))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails only if the client is gone
}

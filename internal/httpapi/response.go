package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Header values that are the same in every response. They must not be changed.
var (
	jsonType  = []string{"application/json"}
	waitOffer = []string{wire.FormatWait(wire.MaxWait)}
)

// errClientGone means that the client has left before its create had ended.
var errClientGone = errors.New("relukko: the client is gone")

// offer says on a response to a create how long creates may wait.
func (a *api) offer(w http.ResponseWriter) {
	if a.original == nil {
		w.Header()[wire.HeaderWait] = waitOffer
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
	return a.original == nil && r.URL.RawQuery != "" && r.URL.Query().Get("waiters") == "1"
}

// writeLock writes a lock, which has the same members in every response.
func (a *api) writeLock(w http.ResponseWriter, status int, lock *store.Lock) {
	l := a.onWire(lock)
	writeJSON(w, status, wire.AppendLock(make([]byte, 0, 512), &l))
}

// writeConflict responds to a create whose name is held: by holder, unless that is nil.
func (a *api) writeConflict(w http.ResponseWriter, about string, holder *store.Lock) {
	if a.original != nil {
		holder = nil
	}
	refusal := reply.Refuse(store.ErrHeld, about)
	b := wire.AppendError(make([]byte, 0, 768), refusal.Status, refusal.Message,
		reply.LockOrNil(holder))
	writeJSON(w, refusal.Status, b)
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

// fail writes the response to a request that ended with err. About is as for [reply.Refuse].
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error, about string) {
	if body, ok := errors.AsType[*requestError](err); ok {
		if body.status == http.StatusRequestTimeout {
			w.Header().Set("Connection", "close")
		}
		writeError(w, body.status, body.message)
		return
	}
	if flood, ok := errors.AsType[*guard.FloodError](err); ok {
		refuseFlood(w, flood)
		return
	}
	gone := r.Context().Err() != nil && errors.Is(err, context.Canceled)
	if gone || errors.Is(err, errClientGone) {
		// The client may have closed its half of the connection only.
		retryNow(w, "the connection was closed before there was an answer; nothing was done")
		return
	}
	refusal := reply.Refuse(err, about)
	if refusal.Level > reply.Unlogged {
		a.Log.Log(r.Context(), refusal.Level, refusal.Message,
			"method", r.Method, "path", r.URL.Path, "error", err)
	}
	switch {
	case errors.Is(err, engine.ErrClosing):
		a.refuseClosing(w, r)
	case refusal.Later:
		retryLater(w, refusal.Status, refusal.Message)
	case errors.Is(err, store.ErrGone):
		writeError(w, a.gone(), refusal.Message)
	default:
		writeError(w, refusal.Status, refusal.Message)
	}
}

// refuseFlood responds to a wrong key from an address that has sent too many.
func refuseFlood(w http.ResponseWriter, flood *guard.FloodError) {
	after := flood.RetryAfter()
	w.Header().Set("Retry-After", after)
	writeError(w, http.StatusTooManyRequests, "wrong or missing X-API-KEY, as in many requests "+
		"from "+flood.Address+" before: try again in "+after+" s, or with a right key immediately")
}

func retryNow(w http.ResponseWriter, message string) {
	h := w.Header()
	h.Set("Retry-After", "0")
	h.Set("Connection", "close")
	writeError(w, http.StatusServiceUnavailable, message)
}

func retryLater(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Retry-After", "1")
	writeError(w, status, message)
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, wire.AppendError(nil, status, message, nil))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if len(body) <= writeChunk {
		_, _ = w.Write(body) // fails only if the client is gone
		return
	}
	writeLong(w, body)
}

const (
	writeChunk   = 64 << 10         // bytes
	chunkTimeout = 10 * time.Second // for a client to take as many
	longTimeout  = time.Minute      // for a client to take all
)

// writeLong cuts off a client that takes the body too slowly.
func writeLong(w http.ResponseWriter, body []byte) {
	control := http.NewResponseController(w)
	end := time.Now().Add(longTimeout)
	for chunk := range slices.Chunk(body, writeChunk) {
		by := time.Now().Add(chunkTimeout)
		if by.After(end) {
			by = end
		}
		_ = control.SetWriteDeadline(by) // where there is one
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	if control.Flush() == nil {
		_ = control.SetWriteDeadline(time.Time{})
	}
}

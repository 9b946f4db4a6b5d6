// Package httpapi serves the Relukko API over HTTP: routes, requests, responses, and the broadcast
// over WebSockets. Package engine decides; this package knows no store.
package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/connlimit"
	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/streamapi"
	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// bodyTimeout bounds the time until a request's body has arrived.
const bodyTimeout = 10 * time.Second

// Handler is the backend as an http.Handler. Make one with New, end it with Shutdown.
type Handler struct {
	api
	mux          *http.ServeMux
	stop, cutOff context.CancelFunc

	// active counts the requests under way, and the open handler as one, so that it reaches 0 once.
	active     atomic.Int64
	closing    atomic.Bool
	drained    chan struct{}
	background sync.WaitGroup
}

// New starts a backend on the store.
func New(s store.Store, c Config) *Handler {
	h := &Handler{api: api{Config: c}, drained: make(chan struct{})}
	audit := c.Audit
	if audit == nil {
		audit = c.Log
	}
	if c.Page != nil {
		h.page = web.New(*c.Page)
	}
	h.guard = guard.New(h.withPage(c.Keys), c.Limits, audit, c.Observer)
	if kind, ok := s.(fmt.Stringer); ok {
		h.storeKind = kind.String()
	}
	h.broadcast.init()
	h.longResponses.init()
	h.mux = h.routes()
	h.stopped, h.stop = context.WithCancel(context.Background())
	h.cut, h.cutOff = context.WithCancel(context.Background())
	h.active.Store(1)
	h.background.Go(func() { h.broadcast.run(h.stopped) })
	h.engine = engine.New(h.stopped, s, engine.Config{
		Grace: c.Grace, MaxWaiters: c.MaxWaiters, Log: c.Log, NewID: wire.NewID,
		History: c.History, Observer: c.Observer,
		Publish: h.publish, Flush: func() { h.broadcast.flush(nil) },
	})
	h.streams = streamapi.New(h.engine, c.Log, func() { h.broadcast.flush(nil) })
	if h.page != nil {
		h.page.Start(h.shown())
		h.background.Go(h.page.Run)
	}
	return h
}

// SetKeys replaces the keys of the Config. Connections and waiting creates of keys that are gone
// are ended, and streams of keys whose rights have changed.
func (h *Handler) SetKeys(keys []access.Key) {
	h.guard.SetKeys(h.withPage(keys))
	h.streams.Recheck()
}

// SignInLink returns the path of a page for signing in once, within 5 min; "" if there is no page.
func (h *Handler) SignInLink() string {
	if h.page == nil {
		return ""
	}
	return h.page.Link()
}

// Shutdown ends the backend. New requests and queued creates get 503 with Retry-After: 0, streams a
// bye, and all WebSockets a going-away close. It returns nil when nothing runs any more, or ctx's
// error when ctx ends first; then it cuts off what is left.
func (h *Handler) Shutdown(ctx context.Context) error {
	if !h.closing.Swap(true) {
		h.engine.Bye()
		h.streams.Bye()
		h.stop()
		h.leave()
	}
	defer time.AfterFunc(closeTimeout, h.cutOff).Stop() // watchers that do not take their close
	done := make(chan struct{})
	go func() {
		<-h.drained
		h.engine.Wait()
		h.background.Wait()
		close(done)
	}()
	select {
	case <-done:
		h.cutOff()
		return nil
	case <-ctx.Done():
		h.cutOff()
		return ctx.Err()
	}
}

// enter counts a request in. It reports false once the handler is closing.
func (h *Handler) enter() bool {
	for !h.closing.Load() {
		n := h.active.Load()
		if n > 0 && h.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

func (h *Handler) leave() {
	if h.active.Add(-1) == 0 {
		close(h.drained)
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	if h.Observer != nil {
		began := time.Now()
		rec.upgraded = func() { h.observe(rec, r, began) }
		defer func() {
			if rec.status != http.StatusSwitchingProtocols {
				h.observe(rec, r, began)
			}
		}()
	}
	if h.Log.Enabled(r.Context(), slog.LevelDebug) {
		defer h.logAccess(rec, r, time.Now())
	}
	if r.ContentLength != 0 {
		// Also for requests that are refused unread, because net/http reads on before it answers.
		// It lifts the deadline at the end of the body.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	if !h.enter() {
		if r.URL.Path == livePath {
			live(rec, r)
		} else {
			h.refuseClosing(rec, r)
		}
		return
	}
	defer h.leave()
	defer h.broadcast.flush(rec)
	defer h.recovered(rec, r)
	if full := connlimit.Full(r.Context()); full != "" {
		rec.Header().Set("Connection", "close")
		if !serveFull(r.URL.Path) {
			retryLater(rec, http.StatusServiceUnavailable, full)
			return
		}
	}
	if !clean(r.URL.Path) { // the mux would redirect it
		h.notFound(rec, r)
		return
	}
	h.mux.ServeHTTP(rec, r)
}

// recovered responds to a request whose handler panicked.
func (h *Handler) recovered(rec *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	h.Log.Error("panic", "method", r.Method, "path", r.URL.Path,
		"panic", p, "stack", string(debug.Stack()))
	if rec.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not pass for a whole one
	}
	writeError(rec, http.StatusInternalServerError, "internal error")
}

// observe reports a response.
func (h *Handler) observe(rec *recorder, r *http.Request, began time.Time) {
	method := r.Method
	if !slices.Contains(knownMethods, method) {
		method = "other"
	}
	route := strings.TrimSuffix(strings.TrimSuffix(r.Pattern, "{$}"), "/")
	if route == "" {
		route = "other"
	}
	h.Observer.Responded(method, route, rec.status, time.Since(began))
}

var knownMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete,
}

// Stats returns what the backend has now.
func (h *Handler) Stats(ctx context.Context) (observe.Stats, error) {
	stats, err := h.engine.Stats(ctx)
	stats.Watchers, stats.Streams = int(h.broadcast.watchers.Load()), h.streams.Count()
	return stats, err
}

func (h *Handler) logAccess(rec *recorder, r *http.Request, start time.Time) {
	h.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status,
		"ip", h.clientAddress(r), "duration", time.Since(start))
}

// serveFull reports whether requests for the path are served on spare connections too: those about
// one lock, and checks.
func serveFull(p string) bool {
	id, aLock := strings.CutPrefix(p, "/v1/locks/")
	return aLock && id != "" || p == livePath || p == readyPath || p == healthPath
}

// clean reports whether the mux takes the path as it is.
func clean(p string) bool {
	cleaned := path.Clean(p)
	return p == cleaned ||
		len(p) == len(cleaned)+1 && strings.HasSuffix(p, "/") && p[:len(cleaned)] == cleaned
}

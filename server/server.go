package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bodyTimeout = 10 * time.Second // for a request's body to arrive
	queueSlack  = 10 * time.Second // for an answer to be written, beyond the time that its request queued
)

// Server is the Relukko backend, an http.Handler. Make one with New, end it with Shutdown.
type Server struct {
	config
	store Store
	mux   *http.ServeMux

	admits atomic.Pointer[[][sha256.Size]byte] // the hashes of the API keys

	room    room
	hub     hub
	sweeper sweeper
	strays  strays

	// stopped ends when Shutdown begins, cut when it gives up waiting for watchers who are slow to go.
	stopped, cut context.Context
	stop, cutOff context.CancelFunc

	// active counts the requests under way, plus one while the server is open, so that it reaches 0 only once.
	active     atomic.Int64
	closing    atomic.Bool
	drained    chan struct{}
	background sync.WaitGroup
}

// New makes a server on the store and starts it. It sweeps expired locks from then on until Shutdown.
func New(store Store, opts ...Option) *Server {
	s := &Server{
		config: config{
			grace:      3 * time.Minute,
			log:        slog.New(slog.DiscardHandler),
			gone:       http.StatusNotFound,
			maxWaiters: 5000,
		},
		store:   store,
		drained: make(chan struct{}),
	}
	for _, o := range opts {
		o(&s.config)
	}
	s.room.init(s.maxWaiters)
	s.hub.init()
	s.sweeper.init()
	s.strays.init()
	s.admits.Store(&s.keys)
	s.mux = s.routes()
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.cut, s.cutOff = context.WithCancel(context.Background())
	s.active.Store(1)
	s.background.Go(s.hub.run(s.stopped))
	s.background.Go(s.sweep)
	s.background.Go(s.listen)
	return s
}

// Shutdown ends the server: new requests are refused with 503 and Retry-After: 0, queued creates likewise, watchers get a
// going-away close. It returns nil when nothing of the server is left running, or ctx's error when ctx ends first; what
// is left by then is cut off. The store stays open, it is its maker's to close.
//
// An http.Server does not wait for its WebSockets, so call this before the Shutdown of the http.Server.
func (s *Server) Shutdown(ctx context.Context) error {
	if !s.closing.Swap(true) {
		s.stop()
		s.leave()
	}
	// A watcher that does not take its close is not waited for.
	defer time.AfterFunc(closeTimeout, s.cutOff).Stop()
	done := make(chan struct{})
	go func() {
		<-s.drained
		s.background.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cutOff()
		return nil
	case <-ctx.Done():
		s.cutOff()
		return ctx.Err()
	}
}

// enter counts a request in, unless the server is closing.
func (s *Server) enter() bool {
	for !s.closing.Load() {
		n := s.active.Load()
		if n > 0 && s.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

func (s *Server) leave() {
	if s.active.Add(-1) == 0 {
		close(s.drained)
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		defer s.logAccess(rec, r, time.Now())
	}
	if r.ContentLength != 0 {
		// Also for requests that are refused unread: net/http reads on before it answers. It lifts the deadline when it
		// has seen the body's end. A writer without deadlines has its own ways.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	if !s.enter() {
		s.refuseClosing(rec, r)
		return
	}
	defer s.leave()
	defer s.hub.announce(rec)
	defer s.recovered(rec, r)
	if !clean(r.URL.Path) { // the mux would redirect it
		s.notFound(rec, r)
		return
	}
	s.mux.ServeHTTP(rec, r)
}

// recovered answers a request whose handler panicked, so that one bad request does not look like a dead server.
func (s *Server) recovered(rec *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.Error("panic", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if rec.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not pass for a whole one
	}
	writeError(rec, http.StatusInternalServerError, "internal error")
}

// guarded makes an error of a panic of the store, where there is no request to blame: whoever happens to hand a name on
// has nothing to do with it, and neither the line nor the process may suffer.
func (s *Server) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("relukko: panic: %v", p)
		}
	}()
	return f()
}

// refuseClosing tells the caller to come again at once, on a new connection: there the next server may be up already.
func (s *Server) refuseClosing(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		s.offer(w)
	}
	h := w.Header()
	h.Set("Retry-After", "0")
	h.Set("Connection", "close")
	writeError(w, http.StatusServiceUnavailable, "the server is shutting down")
}

// SetAPIKeys replaces the keys of [WithAPIKeys] for requests that arrive from now on. Empty keys are ignored.
func (s *Server) SetAPIKeys(keys ...string) {
	hashes := hashed(keys)
	s.admits.Store(&hashes)
}

// admitted tells whether the request carries one of the keys. How long it takes says nothing about the keys: hashes of equal
// length are compared in constant time, and all of them.
func (s *Server) admitted(r *http.Request) bool {
	sum := sha256.Sum256([]byte(r.Header.Get("X-Api-Key")))
	match := 0
	for _, key := range *s.admits.Load() {
		match |= subtle.ConstantTimeCompare(sum[:], key[:])
	}
	return match == 1
}

// peer answers the caller's address without the port.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (s *Server) logAccess(rec *recorder, r *http.Request, start time.Time) {
	s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status,
		"ip", peer(r), "duration", time.Since(start))
}

// recorder remembers the status that was answered, 0 before any.
type recorder struct {
	http.ResponseWriter
	status int
}

func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return rec.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController and the WebSocket find the real writer.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

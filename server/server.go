package server

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Server is the Relukko backend, an http.Handler. Make one with New, end it with Shutdown.
type Server struct {
	config
	store Store
}

// New makes a server on the store and starts it.
func New(store Store, opts ...Option) *Server {
	s := &Server{store: store, config: config{
		grace:      3 * time.Minute,
		log:        slog.New(slog.DiscardHandler),
		gone:       http.StatusNotFound,
		maxWaiters: 5000,
	}}
	for _, o := range opts {
		o(&s.config)
	}
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "coming", http.StatusServiceUnavailable)
}

// Shutdown ends the server: new requests are refused with 503 and Retry-After: 0, queued creates likewise, watchers get a
// going-away close. It returns when nothing of the server is left running, or with ctx's error when ctx ends first; what
// is left by then is cut off. The store stays open, it is its maker's to close.
func (s *Server) Shutdown(ctx context.Context) error { return nil }

package server

import (
	"context"
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Server is the Relukko backend, an [http.Handler]. Make one with New, end it with Shutdown.
type Server struct{ handler *httpapi.Handler }

// New starts a server on the store. The caller keeps the store, and closes it after Shutdown.
func New(s store.Store, opts ...Option) *Server {
	c := httpapi.DefaultConfig()
	for _, o := range opts {
		o(&c)
	}
	return &Server{httpapi.New(s, c)}
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// SetAPIKeys replaces the keys of [WithAPIKeys] for requests that arrive from now on. Empty keys
// are ignored.
func (s *Server) SetAPIKeys(keys ...string) { s.handler.SetKeys(hashed(keys)) }

// Shutdown ends the server. New requests and waiting creates get 503 with Retry-After: 0, and
// WebSockets a going-away close. It returns nil when nothing of the server runs any more, or the
// error of ctx when that ends first; then it cuts off what is left.
//
// Call it before the Shutdown of the http.Server, which does not know of WebSockets and would wait
// for the creates that wait.
func (s *Server) Shutdown(ctx context.Context) error { return s.handler.Shutdown(ctx) }

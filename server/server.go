package server

import (
	"context"
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Server is the Relukko backend, an [http.Handler]. Create one with [New], and end it with
// Shutdown; the zero Server is not usable.
type Server struct{ handler *httpapi.Handler }

// New starts a server on the store. The store remains the caller's, to be closed after Shutdown.
func New(s store.Store, opts ...Option) *Server {
	c := httpapi.DefaultConfig()
	for _, o := range opts {
		o(&c)
	}
	return &Server{httpapi.New(s, c)}
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// SetKeys replaces all keys, those of [WithAPIKeys] too; [access.Admins] makes such ones. What a
// key may do is looked up for each request, so the change counts from now on. WebSockets and
// waiting creates of keys that are gone end with 401, and their places in queues are given up; the
// streams of keys whose role or patterns have changed are closed, so that their clients ask again
// for what they wait for. Locks live out their leases. Without any key every request that needs one
// is refused.
func (s *Server) SetKeys(keys ...access.Key) { s.handler.SetKeys(keys) }

// Stats returns what the server has now. If the store fails, the error is not nil, and only the
// locks are missing.
func (s *Server) Stats(ctx context.Context) (observe.Stats, error) { return s.handler.Stats(ctx) }

// Shutdown ends the server. New requests and waiting creates get 503 with Retry-After: 0, and
// WebSockets are closed as going away. Shutdown returns nil once nothing of the server runs any
// more. If ctx ends first, it cuts off the rest and returns the error of ctx.
//
// Call Shutdown before that of the http.Server, which would wait for the creates that wait, and
// does not know of WebSockets.
func (s *Server) Shutdown(ctx context.Context) error { return s.handler.Shutdown(ctx) }

// SignInLink returns the path and query of a page for signing in once, within 5 min, as an admin
// named after [Page.User], or else [access.DefaultName]. It is "" without [WithPage].
func (s *Server) SignInLink() string { return s.handler.SignInLink() }

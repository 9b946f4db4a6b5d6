// Package streamapi serves the stream: a WebSocket over which a whole process acquires, waits for,
// renews and releases its locks, and hears of their losses. Package engine decides; this package
// turns messages into its calls, and its decisions into messages.
//
// Each connection has one goroutine, which reads requests and handles them where it is. What is
// sent goes through the outbox, so that neither the engine nor other clients wait for a slow one.
package streamapi

import (
	"log/slog"
	"net/http"
	"sync"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
)

// Server has the connections. Make one with New, and end it with Bye.
type Server struct {
	engine    *engine.Engine
	log       *slog.Logger
	published func()

	mu    sync.Mutex
	conns map[*conn]struct{}
	bye   bool
}

// New returns a server of streams over the engine. It calls published when the engine has published
// what it does in response to requests.
func New(e *engine.Engine, log *slog.Logger, published func()) *Server {
	return &Server{engine: e, log: log, published: published, conns: make(map[*conn]struct{})}
}

// features are the requests that a server may lack.
var features = []string{wire.FeatureAll}

// Serve upgrades the request of an admitted client to a stream, and returns at its end. It refuses
// other requests than for an upgrade with an error in plain text.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	c := &conn{engine: s.engine, log: s.log, client: client}
	var err error
	if c.link, c.outbox, err = accept(w, r, c.heard); err != nil {
		return
	}
	c.outbox.rests = s.published
	role := access.Viewer
	if c.key, _ = client.Key(); c.key != nil {
		role = c.key.Role
	}
	c.send(&wire.StreamMessage{
		Kind: wire.MessageHello, Key: client.Name(), Role: role.String(), Features: features,
	})
	c.place = s.engine.Connect(c)
	s.add(c)
	c.recheck() // the keys may have been replaced before Recheck could know of it
	var end error
	defer func() { // also after a panic
		s.engine.Disconnect(c.place, c.gaveUp(end))
		s.remove(c)
		c.close(end)
	}()
	end = c.read()
}

func (s *Server) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	if s.bye {
		c.sayBye()
	}
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Count returns the number of streams.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Recheck closes the connections whose key is gone, or may do other things than before.
func (s *Server) Recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.recheck()
	}
}

// Bye tells all clients that the server shuts down, and closes their connections in the background.
// Those have a second to agree.
func (s *Server) Bye() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bye = true
	for c := range s.conns {
		c.sayBye()
	}
}

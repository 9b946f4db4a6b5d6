package relukkotest

import (
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"

	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Option configures a [Server].
type Option func(*Server)

// InMemory replaces the network by one inside the process, so that the server works in a
// [testing/synctest] bubble, where loopback does not. Only clients returned by [Link.Client] and
// [Link.HTTPClient] can reach it.
func InMemory() Option {
	return func(s *Server) { s.memory = new(faultnet.Memory) }
}

// ClockOffset makes the backend's clock differ from the test's by d. A store of [Store] keeps its
// own clock; then d says by how much it differs, for [Server.Expire] and [Server.ExpireIn].
func ClockOffset(d time.Duration) Option {
	return func(s *Server) { s.clockOffset = d }
}

// Store makes the backend keep its locks in the store that newStore returns. The default is a store
// in memory. newStore is called at the start, and again by [Server.Start] when the locks are not
// kept. If the store has a method Close, it is called at the end.
func Store(newStore func() store.Store) Option {
	return func(s *Server) { s.newStore = newStore }
}

// WithoutStream makes the network pass no stream, as some proxies do: the backend responds with 404
// to the request for one. Clients then use plain requests and the other WebSocket.
func WithoutStream() Option {
	return func(s *Server) { s.noStream = true }
}

// Backend sets options of the backend, such as [server.WithGrace].
func Backend(opts ...server.Option) Option {
	return func(s *Server) { s.options = append(s.options, opts...) }
}

// NewServer starts a backend on loopback, or in memory with [InMemory]. It is stopped when the test
// ends. The test fails if the backend cannot be started.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{
		APIKey:   "test-key-" + rand.Text(),
		changing: make(chan struct{}, 1),
		t:        t,
		requests: make(map[endpoint]int),
		sockets:  make(map[net.Conn]bool),
	}
	s.newStore = func() store.Store { return memstore.New(memstore.WithClockOffset(s.clockOffset)) }
	for _, opt := range opts {
		opt(s)
	}
	s.Link.server = s
	s.links = []*Link{&s.Link}
	s.st = s.newStore()
	t.Cleanup(s.end)
	if err := s.start(); err != nil {
		t.Fatalf("relukkotest: starting the backend: %v", err)
	}
	return s
}

// end ends the backend, and its network.
func (s *Server) end() {
	s.Heal()
	s.Stop()
	for _, l := range s.allLinks() {
		l.faults.Close()
	}
	s.closeStore()
}

func (s *Server) closeStore() {
	if c, ok := s.st.(io.Closer); ok {
		if err := c.Close(); err != nil {
			s.t.Errorf("relukkotest: closing the store: %v", err)
		}
	}
}

// NewLink returns a new link to the same backend.
func (s *Server) NewLink() *Link {
	s.t.Helper()
	defer s.change()()
	l := &Link{server: s}
	listener, err := l.open()
	if err != nil {
		s.t.Fatalf("relukkotest: opening a link: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links = append(s.links, l)
	if s.run != nil {
		s.run.listen(listener)
	} else {
		listener.Close()
	}
	return l
}

// Stop stops the backend as if its process ended: connections are cut, requests under way get no
// response, new connections are refused. Clients on a dark link do not notice. If the backend is
// stopped already, Stop does nothing.
func (s *Server) Stop() {
	defer s.change()()
	s.stop()
}

// Start starts the backend at its previous address, with its previous locks if keepLocks is set,
// else without any. A backend that runs is stopped first.
func (s *Server) Start(keepLocks bool) {
	s.t.Helper()
	defer s.change()()
	s.stop()
	if !keepLocks {
		s.closeStore()
		st := s.newStore()
		s.mu.Lock()
		s.st = st
		s.mu.Unlock()
	}
	if err := s.start(); err != nil {
		s.t.Errorf("relukkotest: starting the backend: %v", err)
	}
}

// change waits until no other goroutine starts, stops or replaces the backend,
// and excludes them until done is called.
func (s *Server) change() (done func()) {
	s.changing <- struct{}{}
	return func() { <-s.changing }
}

func (s *Server) start() error {
	run := newRun(s, s.newBackend())
	s.mu.Lock()
	s.run = run
	s.mu.Unlock()
	for _, l := range s.allLinks() {
		listener, err := l.open()
		if err != nil {
			s.stop()
			return err
		}
		run.listen(listener)
	}
	return nil
}

func (s *Server) stop() {
	s.mu.Lock()
	run := s.run
	s.run = nil
	s.mu.Unlock()
	if run != nil {
		run.stop()
	}
}

package relukkotest

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Server is a backend in the test's process, whose faults the test controls. Create one with
// [NewServer]; the zero Server is not usable. All methods are safe for concurrent use.
type Server struct {
	// Link is the link of all clients that have no other.
	Link

	APIKey string // the backend's only key

	t           testing.TB
	memory      *faultnet.Memory // nil on loopback
	noStream    bool
	newStore    func() store.Store
	clockOffset time.Duration

	// changing has an element while the backend is started, stopped or replaced.
	// It is not a mutex, because time stands still in a synctest bubble with a
	// goroutine that waits for a mutex.
	changing  chan struct{}
	addresses int // in memory: how many links have an address

	mu            sync.Mutex // never held while something waits
	st            store.Store
	options       []server.Option
	links         []*Link
	run           *run // nil while stopped
	faults        []*fault
	latency       func(*http.Request) (before, after time.Duration)
	refuseSockets bool
	requests      map[endpoint]int
	opened        int
	sockets       map[net.Conn]bool // open WebSockets; whether each is a stream
	faulty        bool              // there were faults of requests, so there is no stream
}

// Link is a network between clients and a backend, with an address of its own. With a Link for each
// client, one client can lose its connection while the others keep theirs. A [Server] is itself a
// Link; [Server.NewLink] returns more.
type Link struct {
	URL string // of the backend, over this link

	server  *Server
	faults  faultnet.Faults
	address string // host:port
}

// A run is the time between a start of the backend and its stop.
type run struct {
	server  *Server
	http    http.Server
	stopped chan struct{}  // closed when the stop begins
	serving sync.WaitGroup // listeners, and requests under way

	// The mutex of server guards the rest.
	backend  *server.Server
	stopping bool
}

// A fault is something that happens to the next requests that match.
type fault struct {
	match Match
	left  int // how many requests; below 0: no limit

	// one of
	answer          *Answer
	cut             bool
	hold, holdReply *Hold
}

// Answer is a response that a fault gives instead of the backend's.
type Answer struct {
	Status int
	Header http.Header
	Body   string // "" means the backend's own {"status": …, "message": …}
}

// Match reports whether a fault applies to a request. The nil Match applies to every request that
// does not open a WebSocket.
type Match func(*http.Request) bool

// endpoint is what requests are counted by. The id or mark in its path is
// replaced by its name, so that the number of endpoints is limited.
type endpoint struct{ method, path string }

func (s *Server) allLinks() []*Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.links)
}

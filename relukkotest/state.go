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

// A Server is a backend in the test's process, with faults to inject. All
// methods may be called at any time, by any goroutine.
type Server struct {
	// The way to the backend that all share who were not given another.
	Link

	APIKey string // the one key that the backend knows

	t           testing.TB
	memory      *faultnet.Memory // nil on loopback
	newStore    func() store.Store
	clockOffset time.Duration

	// changing has an element while somebody starts, stops or replaces the
	// backend. It is no mutex because that takes time, which would stand still
	// in a bubble with a goroutine that waits for a mutex.
	changing  chan struct{}
	addresses int // in memory: how many links have got theirs

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
	sockets       map[net.Conn]struct{}
}

// A Link is one way to a backend, with an address and a darkness of its own:
// with a Link for each client, one can lose sight of the backend while the
// others go on. A [Server] is a Link itself; [Server.NewLink] makes more.
type Link struct {
	URL string // of the backend, by this way

	server  *Server
	faults  faultnet.Faults
	address string // host:port
}

// A run is the time between a start of the backend and its stop.
type run struct {
	server  *Server
	http    http.Server
	stopped chan struct{}  // closed when the stop begins
	serving sync.WaitGroup // what listens, and the requests under way

	// The mutex of server guards the rest.
	backend  *server.Server
	stopping bool
}

// A fault is something that happens to the next requests that match.
type fault struct {
	match Match
	left  int // requests it will happen to; below 0: no end

	// one of
	answer          *Answer
	cut             bool
	hold, holdReply *Hold
}

// An Answer is what a fault says instead of the backend.
type Answer struct {
	Status int
	Header http.Header
	Body   string // empty: the backend's own {"status": …, "message": …}
}

// A Match says which requests a fault is for. A nil Match is for every request
// but the opening of WebSockets.
type Match func(*http.Request) bool

// endpoint is what requests are counted by. Its path has its variable part
// named, so that the account does not grow with the number of locks.
type endpoint struct{ method, path string }

func (s *Server) allLinks() []*Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.links)
}

package relukko_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

var openStream = relukkotest.On("GET", "/v1/stream")

// streamNet is a network between a client and a server that has faults at the messages of the
// stream. One fault strikes at a time.
type streamNet struct {
	*faultnet.Messages
	server *relukkotest.Server
	client *api.Client

	mu     sync.Mutex
	at     string // the kind of message at which the fault strikes; "": none does
	fault  *streamFault
	lasts  time.Duration
	active bool
	struck chan struct{} // closed when the fault has struck
	healed chan struct{} // closed when it is over
}

// newStreamNet returns a network to s with a client on it.
func newStreamNet(t *testing.T, s *relukkotest.Server) *streamNet {
	t.Helper()
	n := &streamNet{Messages: faultnet.NewMessages("/v1/stream"), server: s}
	h := s.HTTPClient()
	transport := h.Transport.(*http.Transport)
	transport.DialContext = n.Wrap(transport.DialContext)
	var err error
	n.client, err = api.New(s.URL, s.APIKey, api.WithHTTPClient(h))
	require.NoError(t, err)
	n.Each(n.decide)
	t.Cleanup(n.Close)
	t.Cleanup(func() { // of a test that has failed
		n.Each(nil)
		s.Heal()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		n.client.Shutdown(ctx)
	})
	return n
}

// streamFault is what happens at a message of the stream.
type streamFault struct {
	name string
	fate faultnet.Fate

	// Until it is over, the messages of other connections have this fate from their hello on.
	others faultnet.Fate

	begin, end func(*relukkotest.Server)
}

// streamFaults are the faults of a stream whose server can be reached again after a while, if not
// at once.
var streamFaults = []streamFault{
	{name: "cut before it", fate: faultnet.CutBefore},
	{name: "cut after it", fate: faultnet.CutAfter},
	{name: "vanished before it", fate: faultnet.VanishBefore},
	{name: "vanished after it", fate: faultnet.VanishAfter},
	{name: "nothing arrives at the server", fate: faultnet.DarkUp, others: faultnet.DarkUp},
	{name: "nothing arrives at the client", fate: faultnet.DarkDown, others: faultnet.DarkDown},
	{name: "nothing arrives at either end", fate: faultnet.Dark, others: faultnet.Dark},
	{name: "one connection goes dark", fate: faultnet.Dark},
	{name: "all new connections are cut", fate: faultnet.CutBefore, others: faultnet.CutBefore},
	{name: "no hello comes", fate: faultnet.CutAfter, others: faultnet.Dark},
	{name: "503 to those that connect", fate: faultnet.CutAfter,
		begin: func(s *relukkotest.Server) {
			s.AnswerNext(-1, openStream, relukkotest.Answer{Status: 503})
		},
		end: (*relukkotest.Server).Heal},
	{name: "502 of a proxy to those that connect", fate: faultnet.CutBefore,
		begin: func(s *relukkotest.Server) {
			s.AnswerNext(-1, openStream, relukkotest.Answer{Status: 502, Body: "<html>no backend"})
		},
		end: (*relukkotest.Server).Heal},
	{name: "404 to those that connect", fate: faultnet.CutAfter,
		begin: func(s *relukkotest.Server) { s.RefuseWebSockets(true) },
		end:   (*relukkotest.Server).Heal},
	{name: "the network is dark",
		begin: (*relukkotest.Server).GoDark, end: (*relukkotest.Server).ComeBack},
	{name: "the server restarts", begin: func(s *relukkotest.Server) { s.Start(true) }},
	{name: "the server is down", begin: (*relukkotest.Server).Stop,
		end: func(s *relukkotest.Server) { s.Start(true) }},
	{name: "a proxy responds to everything", fate: faultnet.CutAfter,
		begin: func(s *relukkotest.Server) { s.AnswerNext(-1, anyRequest, proxyPage) },
		end:   (*relukkotest.Server).Heal},
}

var proxyPage = relukkotest.Answer{Status: 502, Body: "<html>no backend"}

func anyRequest(*http.Request) bool { return true }

// arm has the fault strike at the next message of this kind, and end after the time that it lasts.
func (n *streamNet) arm(f *streamFault, at string, lasts time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at, n.fault, n.lasts = at, f, lasts
	n.struck, n.healed = make(chan struct{}), make(chan struct{})
}

// strike has the fault strike now.
func (n *streamNet) strike(f *streamFault, lasts time.Duration) {
	n.arm(f, "", lasts)
	n.begin()
	if f.fate != faultnet.Pass {
		n.server.DropWebSockets()
	}
}

// disarm has the fault strike no more. It reports whether it has.
func (n *streamNet) disarm() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	unused := n.at != ""
	n.at = ""
	return !unused
}

func (n *streamNet) decide(text []byte, _ bool) faultnet.Fate {
	n.mu.Lock()
	if n.active {
		defer n.mu.Unlock()
		return n.fault.others
	}
	if n.at == "" || messageKind(text) != n.at {
		n.mu.Unlock()
		return faultnet.Pass
	}
	fate := n.fault.fate
	n.mu.Unlock()
	n.begin()
	return fate
}

// begin begins the fault, and ends it after its time.
func (n *streamNet) begin() {
	n.mu.Lock()
	n.at, n.active = "", true
	f, struck, healed := n.fault, n.struck, n.healed
	n.mu.Unlock()
	time.AfterFunc(n.lasts, func() {
		n.mu.Lock()
		n.active = false
		n.mu.Unlock()
		if f.end != nil {
			f.end(n.server)
		}
		close(healed)
	})
	if f.begin != nil {
		f.begin(n.server)
	}
	close(struck)
}

// messageKind returns what kind of message this is: its telling member. The answer with a lock is
// a grant or a renewal.
func messageKind(text []byte) string {
	var m map[string]json.RawMessage
	json.Unmarshal(text, &m)
	for _, kind := range []string{"hello", "acquire", "cancel", "renew", "release", "ping", "pong",
		"waiting", "done", "error", "deleted", "wanted", "bye"} {
		if m[kind] != nil {
			return kind
		}
	}
	if m["lock"] != nil && m["seen"] != nil {
		return "grant"
	}
	if m["lock"] != nil {
		return "renewed"
	}
	return ""
}

// onStream runs f in a bubble with a server and such a network to it, for each fault and each kind
// of message at which it strikes.
func onStream(
	t *testing.T, faults []streamFault, kinds []string,
	f func(t *testing.T, n *streamNet, fault *streamFault, at string),
) {
	for _, fault := range faults {
		for _, at := range kinds {
			bubble(t, at+"/"+fault.name, func(t *testing.T, s *relukkotest.Server) {
				f(t, newStreamNet(t, s), &fault, at)
			})
		}
	}
}

// close requires that the client ends its work soon, and leaves no lock.
func (n *streamNet) close(t *testing.T) {
	t.Helper()
	start := time.Now()
	require.NoError(t, n.client.Shutdown(t.Context()))
	require.Less(t, time.Since(start), 90*time.Second)
	require.Empty(t, n.server.Locks())
}

// lockSoon locks m in the background. What comes is the context that Lock returned, or nil.
func lockSoon(t *testing.T, m *relukko.Mutex) <-chan context.Context {
	acquired := make(chan context.Context, 1)
	go func() {
		held, err := m.Lock(t.Context())
		if err != nil {
			t.Errorf("Lock: %v", err)
		}
		acquired <- held
	}()
	return acquired
}

// requireWithin requires that a lock is acquired within this time, and returns its context.
func requireWithin(t *testing.T, d time.Duration, acquired <-chan context.Context) context.Context {
	t.Helper()
	start := time.Now()
	select {
	case held := <-acquired:
		require.NotNil(t, held)
		t.Logf("after %v", time.Since(start))
		return held
	case <-time.After(d):
		require.FailNow(t, "not acquired", "within %v", d)
		return nil
	}
}

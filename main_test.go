package relukko_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	testbubble "gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/originalapi"
	"gitlab.com/relukko/relukko-go/internal/test/overlap"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestMain(m *testing.M) {
	overlap.Tests("8")
	goleak.VerifyTestMain(m)
}

// bubble runs f in a synctest bubble, with a backend in memory: as a subtest of this name, or,
// with an empty name, as the test itself.
func bubble(
	t *testing.T, name string, f func(*testing.T, *relukkotest.Server), opts ...relukkotest.Option,
) {
	opts = append([]relukkotest.Option{relukkotest.InMemory()}, opts...)
	run := func(t *testing.T) {
		testbubble.Test(t, func(t *testing.T) { f(t, relukkotest.NewServer(t, opts...)) })
	}
	if name == "" {
		run(t)
		return
	}
	t.Run(name, run)
}

// plainly is bubble for clients that the network lets use plain requests only, since f plays with
// those.
func plainly(
	t *testing.T, name string, f func(*testing.T, *relukkotest.Server), opts ...relukkotest.Option,
) {
	bubble(t, name, f, append(opts, relukkotest.WithoutStream())...)
}

// kinds are the two kinds of backend: ours, and the original.
var kinds = map[string]func(*relukkotest.Server){
	"our backend":      func(*relukkotest.Server) {},
	"original backend": original,
}

// original makes s behave as the original backend.
func original(s *relukkotest.Server) { like(httpapi.Original{})(s) }

// like returns a function that makes a server behave as that original backend.
func like(o httpapi.Original) func(*relukkotest.Server) {
	return func(s *relukkotest.Server) { s.Reconfigure(httpapi.LikeOriginal(o)) }
}

// backend is a kind of backend, with what may be different about it.
type backend struct {
	name   string
	setUp  func(*relukkotest.Server)
	opts   []relukkotest.Option
	noPush bool // there is no WebSocket
	polls  bool // nor can a create wait on the server
}

// backends are those on which a mutex behaves the same.
var backends = []backend{
	{name: "our backend"},
	{name: "our backend, no WebSocket", noPush: true, setUp: func(s *relukkotest.Server) {
		s.RefuseWebSockets(true)
	}},
	{name: "our backend, clock 7 h ahead",
		opts: []relukkotest.Option{relukkotest.ClockOffset(7 * time.Hour)}},
	{name: "original backend", setUp: original},
	{name: "original backend, 422 for gone", setUp: like(httpapi.Original{Gone: 422})},
	{
		name: "original backend, clock 7 h behind", setUp: original,
		opts: []relukkotest.Option{relukkotest.ClockOffset(-7 * time.Hour)},
	},
	{name: "original backend, no WebSocket", setUp: like(httpapi.Original{NoSocket: true}),
		noPush: true, polls: true},
}

// plainlyOnEach is onEach for clients as those of plainly.
func plainlyOnEach(t *testing.T, f func(*testing.T, *relukkotest.Server, backend)) {
	onEach(t, f, relukkotest.WithoutStream())
}

// onEach runs f on each kind of backend, and with each shape of the deleted message.
func onEach(
	t *testing.T, f func(*testing.T, *relukkotest.Server, backend), opts ...relukkotest.Option,
) {
	for _, b := range backends {
		bubble(t, b.name, func(t *testing.T, s *relukkotest.Server) {
			if b.setUp != nil {
				b.setUp(s)
			}
			f(t, s, b)
		}, append(opts, b.opts...)...)
	}
	for name, shape := range originalapi.DeletedShapes() {
		bubble(t, "deleted as "+name, func(t *testing.T, s *relukkotest.Server) {
			like(httpapi.Original{Deleted: shape})(s)
			f(t, s, backend{})
		}, opts...)
	}
}

// leased reports whether the lock arm was created just now with a lease of that TTL, and not for 10
// min.
func leased(t *testing.T, s *relukkotest.Server, ttl time.Duration) bool {
	t.Helper()
	for _, l := range s.Locks() {
		if l.Name == "arm" {
			length := l.ExpiresAt.Sub(l.CreatedAt)
			require.Contains(t, []time.Duration{ttl, 10 * time.Minute}, length)
			return length == ttl
		}
	}
	require.Fail(t, "arm is not locked")
	return false
}

// lock locks m, or fails the test.
func lock(t *testing.T, m *relukko.Mutex) context.Context {
	t.Helper()
	held, err := m.Lock(t.Context())
	require.NoError(t, err)
	return held
}

// session returns the session that guards ctx.
func session(t *testing.T, ctx context.Context) *relukko.Session {
	t.Helper()
	s, ok := relukko.FromContext(ctx)
	require.True(t, ok)
	return s
}

// requireLost requires that ctx was ended by a loss for this reason, and returns the loss.
func requireLost(t *testing.T, ctx context.Context, reason relukko.LossReason) *relukko.LostError {
	t.Helper()
	require.Error(t, ctx.Err(), "the context must be done")
	var lost *relukko.LostError
	require.ErrorAs(t, context.Cause(ctx), &lost)
	require.ErrorIs(t, lost, relukko.ErrLockLost)
	require.Equal(t, reason, lost.Reason, "%v", lost)
	return lost
}

// names returns the names of the locks on the backend.
func names(s *relukkotest.Server) []string {
	names := []string{}
	for _, l := range s.Locks() {
		names = append(names, l.Name)
	}
	return names
}

// occupants counts the goroutines in a critical section, and keeps the maximum.
type occupants struct{ n, most atomic.Int64 }

func (o *occupants) enter() { o.most.Store(max(o.most.Load(), o.n.Add(1))) }
func (o *occupants) leave() { o.n.Add(-1) }

var errCancelled = errors.New("the caller has cancelled")

// requireNoKey requires that the text does not contain the API key.

func requireNoKey(t *testing.T, s *relukkotest.Server, text string) {
	t.Helper()
	require.False(t, strings.Contains(text, s.APIKey), "the key is in: %s", text)
}

package relukko_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/test/originalapi"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in a synctest bubble with a backend in memory.
func bubble(t *testing.T, name string, f func(t *testing.T, s *relukkotest.Server), opts ...relukkotest.Option) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f(t, relukkotest.NewServer(t, append([]relukkotest.Option{relukkotest.InMemory()}, opts...)...))
		})
	})
}

// backends are the kinds of backend on which a mutex behaves alike.
var backends = []struct {
	name  string
	setUp func(*relukkotest.Server)
	opts  []relukkotest.Option
	mute  bool // no push: neither a WebSocket nor waiting on the server
}{
	{name: "with all extensions"},
	{name: "without extensions", setUp: original},
	{name: "without waiting", setUp: func(s *relukkotest.Server) { s.Reconfigure(httpapi.Without(httpapi.ExtWait)) }},
	{name: "without calling off", setUp: func(s *relukkotest.Server) { s.Reconfigure(httpapi.Without(httpapi.ExtCallOff)) }},
	{name: "without the holder", setUp: func(s *relukkotest.Server) { s.Reconfigure(httpapi.Without(httpapi.ExtHolder)) }},
	{name: "422 for gone", setUp: func(s *relukkotest.Server) { original(s); s.Reconfigure(httpapi.GoneStatus(422)) }},
	{name: "clock 7 h ahead", opts: []relukkotest.Option{relukkotest.ClockOffset(7 * time.Hour)}},
	{name: "clock 7 h behind", setUp: original, opts: []relukkotest.Option{relukkotest.ClockOffset(-7 * time.Hour)}},
	{name: "no WebSocket", setUp: func(s *relukkotest.Server) { original(s); s.RefuseWebSockets(true) }, mute: true},
}

func original(s *relukkotest.Server) { s.Reconfigure(originalapi.Backend()) }

// onEach runs f against every kind of backend, and every shape of `deleted`.
func onEach(t *testing.T, f func(t *testing.T, s *relukkotest.Server, mute bool)) {
	for _, b := range backends {
		bubble(t, b.name, func(t *testing.T, s *relukkotest.Server) {
			if b.setUp != nil {
				b.setUp(s)
			}
			f(t, s, b.mute)
		}, b.opts...)
	}
	for name, shape := range originalapi.DeletedShapes() {
		bubble(t, "deleted as "+name, func(t *testing.T, s *relukkotest.Server) {
			original(s)
			s.Reconfigure(httpapi.DeletedShape(shape))
			f(t, s, false)
		})
	}
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

// lostFor requires that ctx ended by a loss, and returns it.
func lostFor(t *testing.T, ctx context.Context, reason relukko.LossReason) *relukko.LostError {
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

// inside counts who is in a critical section, and remembers whether there was
// ever more than one.
type inside struct{ n, most atomic.Int64 }

func (i *inside) enter() { i.most.Store(max(i.most.Load(), i.n.Add(1))) }
func (i *inside) leave() { i.n.Add(-1) }

var errCancelled = errors.New("the caller has lost interest")

func requireNoKey(t *testing.T, s *relukkotest.Server, text string) {
	t.Helper()
	require.False(t, strings.Contains(text, s.APIKey), "the key is in: %s", text)
}

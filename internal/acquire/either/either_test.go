package either_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waiting returns the result of a Lock that waits.
func waiting(ctx context.Context, m *relukko.Mutex) <-chan error {
	done := make(chan error, 1)
	go func() {
		held, err := m.Lock(ctx)
		if err == nil {
			err = m.Unlock(held)
		}
		done <- err
	}()
	return done
}

// A Lock that waits moves between the stream and plain requests with its mark, is granted, and
// leaves nothing on the backend.
func TestMoves(t *testing.T) {
	for name, change := range map[string]func(s *relukkotest.Server){
		"stays on the stream": func(*relukkotest.Server) {},
		"the stream goes": func(s *relukkotest.Server) {
			s.RefuseWebSockets(true)
			s.DropWebSockets()
		},
		"the stream goes and comes back": func(s *relukkotest.Server) {
			s.RefuseWebSockets(true)
			s.DropWebSockets()
			time.Sleep(20 * time.Second)
			s.RefuseWebSockets(false)
		},
		"the stream breaks": (*relukkotest.Server).DropWebSockets,
		"a restart": func(s *relukkotest.Server) {
			s.Stop()
			time.Sleep(12 * time.Second)
			s.Start(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := relukkotest.NewServer(t, relukkotest.InMemory())
				holder := relukko.NewMutex(s.Client(), "arm")
				held, err := holder.Lock(t.Context())
				require.NoError(t, err)
				c := s.Client()
				done := waiting(t.Context(), relukko.NewMutex(c, "arm"))
				ctx, cancel := context.WithCancel(t.Context())
				gaveUp := waiting(ctx, relukko.NewMutex(c, "arm"))
				time.Sleep(5 * time.Second)
				change(s)
				time.Sleep(2 * time.Minute)
				require.NoError(t, held.Err(), "nothing is lost")
				cancel()
				require.ErrorIs(t, <-gaveUp, relukko.ErrLocked)
				require.NoError(t, holder.Unlock(held))
				require.NoError(t, <-done)
				require.NoError(t, c.Shutdown(t.Context()))
				require.Empty(t, s.Locks())
			})
		})
	}
}

// A Lock begun without a stream continues over it.
func TestStreamComesUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := relukkotest.NewServer(t, relukkotest.InMemory())
		holder := relukko.NewMutex(s.Client(), "arm")
		held, err := holder.Lock(t.Context())
		require.NoError(t, err)
		s.RefuseWebSockets(true)
		s.DropWebSockets()
		c := s.Client()
		done := waiting(t.Context(), relukko.NewMutex(c, "arm"))
		time.Sleep(time.Minute)
		s.RefuseWebSockets(false)
		time.Sleep(2 * time.Minute)
		before := s.Requests("POST", "/v1/locks/")
		time.Sleep(10 * time.Minute)
		require.Equal(t, before, s.Requests("POST", "/v1/locks/"), "it waits over the stream")
		require.NoError(t, holder.Unlock(held))
		require.NoError(t, <-done)
		require.NoError(t, c.Shutdown(t.Context()))
		require.Empty(t, s.Locks())
	})
}

// The cleanup of a Lock that gave up without a stream ends soon after there is one: a create
// without a response would otherwise be looked for until it cannot appear any more.
func TestCleanupMovesToTheStream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := relukkotest.NewServer(t, relukkotest.InMemory())
		s.RefuseWebSockets(true)
		c := s.Client()
		m := relukko.NewMutex(c, "arm")
		require.NoError(t, <-waiting(t.Context(), m))
		s.GoDark()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, <-waiting(ctx, m), context.DeadlineExceeded)
		time.Sleep(10 * time.Second) // until the create has ended without a response
		s.ComeBack()
		s.RefuseWebSockets(false)
		began := time.Now()
		require.NoError(t, c.Shutdown(t.Context()))
		require.Less(t, time.Since(began), 30*time.Second, "the next try of the stream")
		require.Empty(t, s.Locks())
	})
}

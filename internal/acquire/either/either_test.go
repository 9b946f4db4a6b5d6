package either_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
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

// givenUp returns a client whose Lock waited over the stream, and gave up in the dark. If granted
// is set it was granted before, but could not know that; else another client has the lock.
func givenUp(t *testing.T, s *relukkotest.Server, granted bool) *api.Client {
	_, err := s.NewLink().Client().Create(t.Context(), "arm", "other")
	require.NoError(t, err)
	c := s.Client()
	ctx, cancel := context.WithCancel(t.Context())
	done := waiting(ctx, relukko.NewMutex(c, "arm"))
	time.Sleep(time.Second)
	s.GoDark()
	if granted {
		require.True(t, s.Delete("arm"))
		synctest.Wait()
		require.Len(t, s.Locks(), 1)
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	return c
}

// What a Lock that gave up has left is cleaned up over the stream or by plain requests, whichever
// works first.
func TestCleanup(t *testing.T) {
	const dark = 12 * time.Second
	restart := func(s *relukkotest.Server) { s.Start(true) }
	refuse := func(s *relukkotest.Server) { s.RefuseWebSockets(true) }
	fail := func(s *relukkotest.Server) {
		s.AnswerNext(-1, relukkotest.On("GET", "/v1/stream"), relukkotest.Answer{Status: 502})
	}
	hang := func(s *relukkotest.Server) { s.Hold(relukkotest.On("GET", "/v1/stream")) }
	for name, tt := range map[string]struct {
		granted bool
		dark    time.Duration
		trouble func(s *relukkotest.Server)
		took    time.Duration // from the end of the dark, at most
	}{
		"the stream is back":                   {false, dark, nil, time.Second},
		"it is back, on a new server":          {false, dark, restart, time.Second},
		"it is back, and there is a lock":      {true, dark, nil, time.Second},
		"it is refused, and there is a lock":   {true, 0, refuse, 7 * time.Second},
		"it fails, and there is a lock":        {true, 0, fail, 11 * time.Second},
		"it says nothing, and there is a lock": {true, 0, hang, 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := relukkotest.NewServer(t, relukkotest.InMemory())
				c := givenUp(t, s, tt.granted)
				time.Sleep(tt.dark)
				if tt.trouble != nil {
					tt.trouble(s)
				}
				s.ComeBack()
				began := time.Now()
				require.NoError(t, c.Shutdown(t.Context()))
				require.LessOrEqual(t, time.Since(began), tt.took)
				require.Equal(t, !tt.granted, s.Delete("arm"), "of the other client")
				synctest.Wait()
				require.Empty(t, s.Locks())
			})
		})
	}
}

// Shutdown abandons a cleanup when its context ends, and says so.
func TestShutdownAbandonsACleanup(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := relukkotest.NewServer(t, relukkotest.InMemory())
		c := givenUp(t, s, true)
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second) // plain requests have begun
		defer cancel()
		began := time.Now()
		require.ErrorContains(t, c.Shutdown(ctx), "the cleanup of a Lock that gave up")
		require.Equal(t, 11*time.Second, time.Since(began))
	})
}

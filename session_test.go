package relukko_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestDeletionIsKnownWithinARoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		lost := make(chan error, 2)
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(9*time.Second),
			relukko.WithOnLost(func(err *relukko.LostError) { lost <- err }))
		held := lock(t, m)
		other := relukko.NewMutex(s.Client(), "leg")
		otherHeld := lock(t, other)
		time.Sleep(30 * time.Second)

		id := session(t, held).Info().ID
		require.True(t, s.Delete("arm"))
		start := time.Now()
		<-held.Done()
		if b.noPush {
			require.LessOrEqual(t, time.Since(start), 3*time.Second, "at the next heartbeat")
		} else {
			require.LessOrEqual(t, time.Since(start), time.Millisecond)
		}
		e := requireLost(t, held, relukko.LossDeleted)
		require.Equal(t, id, e.ID)
		require.Equal(t, "arm", e.Name)
		require.Equal(t, error(e), <-lost)

		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		time.Sleep(time.Minute)
		require.NoError(t, otherHeld.Err(), "the other lock is not affected")
		require.NoError(t, other.Unlock(otherHeld))
		synctest.Wait()
		require.Empty(t, lost, "a loss is reported once")
	})
}

func TestDeletionIsKnownWithin100msOnLoopback(t *testing.T) {
	s := relukkotest.NewServer(t)
	m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(time.Second))
	held := lock(t, m)
	sess := session(t, held)
	first := sess.Info()
	require.Eventually(t, func() bool {
		return sess.Info() != first && s.OpenWebSockets() == 1
	}, 5*time.Second, time.Millisecond)
	start := time.Now()
	require.True(t, s.Delete("arm"))
	<-held.Done()
	require.Less(t, time.Since(start), 100*time.Millisecond)
	requireLost(t, held, relukko.LossDeleted)
	require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
}

func TestDeletionIsKnownAfterAReconnect(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		time.Sleep(5 * time.Second)
		s.RefuseWebSockets(true)
		s.DropWebSockets()
		time.Sleep(time.Millisecond)
		s.Delete("arm")
		s.RefuseWebSockets(false)
		time.Sleep(14 * time.Second) // the next heartbeat is due only after that
		requireLost(t, held, relukko.LossDeleted)
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
	})
}

func TestBroadcastIsOnlyAHint(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		var id atomic.Value // of arm
		like(httpapi.Original{Deleted: func(wire.Lock) any { return id.Load() }})(s)
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		id.Store(session(t, held).Info().ID)
		time.Sleep(2 * time.Second)
		other := relukko.NewMutex(s.Client(), "leg")
		for range 20 {
			lock(t, other)
			require.NoError(t, other.Unlock(t.Context())) // the event says that arm was deleted
		}
		time.Sleep(time.Minute)
		require.NoError(t, held.Err())
		require.NoError(t, m.Unlock(held))
	})
}

func TestTheCauseIsTold(t *testing.T) {
	errWhy := errors.New("the bench is needed elsewhere")
	bubble(t, "unlock", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		sess := session(t, held)
		require.NoError(t, sess.Err())
		require.NoError(t, m.Unlock(held))
		require.ErrorIs(t, held.Err(), context.Canceled)
		require.Equal(t, relukko.ErrUnlocked, context.Cause(held))
		require.Equal(t, relukko.ErrUnlocked, context.Cause(sess.CleanupContext()))
		require.Equal(t, relukko.ErrUnlocked, sess.Err())
		<-sess.Done()
	})
	bubble(t, "the parent", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		parent, cancel := context.WithCancelCause(t.Context())
		held, err := m.Lock(parent)
		require.NoError(t, err)
		cancel(errWhy)
		require.Equal(t, errWhy, context.Cause(held))
		require.NoError(t, session(t, held).Err(), "the lock is still held")
		require.NoError(t, m.Unlock(held))
	})
	bubble(t, "a loss", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		time.Sleep(2 * time.Second)
		s.Delete("arm")
		<-held.Done()
		lost := requireLost(t, held, relukko.LossDeleted)
		require.Equal(t, error(lost), context.Cause(session(t, held).CleanupContext()))
		require.Equal(t, error(lost), session(t, held).Err())
		require.Contains(t, lost.Error(), `lock "arm"`)
		err := m.Unlock(held)
		require.Equal(t, error(lost), err)
	})
	bubble(t, "a Lock that fails", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		lock(t, m)
		defer m.Unlock(t.Context())
		parent, cancel := context.WithCancelCause(t.Context())
		cancel(errWhy)
		for _, acquire := range []func(context.Context) (context.Context, error){
			m.Lock, m.TryLock,
		} {
			for _, ctx := range []context.Context{parent, t.Context()} {
				limited, cancel := context.WithTimeout(ctx, time.Second)
				failed, err := acquire(limited)
				cancel()
				require.Error(t, err)
				require.Error(t, failed.Err())
				require.Equal(t, err, context.Cause(failed))
				_, guarded := relukko.FromContext(failed)
				require.False(t, guarded)
				if ctx == parent {
					require.ErrorIs(t, err, errWhy)
					require.ErrorIs(t, err, context.Canceled)
				}
			}
		}
	})
}

func TestCancellingTheParentStopsTheWorkNeverTheLock(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(3*time.Second))
		type key struct{}
		parent, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
		held, err := m.Lock(parent)
		require.NoError(t, err)
		cancel(errCancelled)
		<-held.Done()
		cleanup := session(t, held).CleanupContext()
		require.NoError(t, cleanup.Err())
		require.Equal(t, "value", cleanup.Value(key{}))
		within, ok := relukko.FromContext(cleanup)
		require.True(t, ok)
		require.Same(t, session(t, held), within)
		time.Sleep(15 * time.Minute) // a lock that is never renewed lives for 10
		require.NoError(t, cleanup.Err(), "the heartbeat goes on")
		require.NoError(t, m.Unlock(held), "with a cancelled context")
		require.Empty(t, s.Locks())
		require.Equal(t, relukko.ErrUnlocked, context.Cause(cleanup))
	})
}

func TestFromContextReturnsTheInnermost(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		arm, leg := relukko.NewMutex(c, "arm"), relukko.NewMutex(c, "leg")
		_, ok := relukko.FromContext(t.Context())
		require.False(t, ok)
		outer := lock(t, arm)
		inner, err := leg.Lock(outer)
		require.NoError(t, err)
		require.Equal(t, "leg", session(t, inner).Info().Name)
		require.Equal(t, "arm", session(t, outer).Info().Name)
		require.NoError(t, arm.Unlock(inner), "inner also has arm's session")
		require.ErrorIs(t, leg.Unlock(outer), nil, "outer has no session of leg")
		require.Equal(t, relukko.ErrUnlocked, context.Cause(inner))
	})
}

func TestLossOfTheOuterLockEndsTheInnerContext(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		arm, leg := relukko.NewMutex(c, "arm"), relukko.NewMutex(c, "leg")
		outer := lock(t, arm)
		inner, err := leg.Lock(outer)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		s.Delete("arm")
		<-inner.Done()
		require.Equal(t, "arm", requireLost(t, inner, relukko.LossDeleted).Name)
		require.NoError(t, session(t, inner).Err(), "leg is still held")
		require.NoError(t, leg.Unlock(inner))
		require.ErrorIs(t, arm.Unlock(inner), relukko.ErrLockLost)
	})
}

func TestNothingIsLeftBehind(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		synctest.Wait()
		before := goleak.IgnoreCurrent()
		h := s.HTTPClient()
		c, err := api.New(s.URL, s.APIKey, api.WithHTTPClient(h))
		require.NoError(t, err)
		for i := range 20 {
			m := relukko.NewMutex(c, fmt.Sprint("arm-", i%3))
			held, err := m.Lock(t.Context())
			require.NoError(t, err)
			time.Sleep(time.Duration(i) * 200 * time.Millisecond)
			if i%5 == 4 {
				s.Delete(m.Name())
				time.Sleep(time.Minute)
			}
			m.Unlock(held)
		}
		time.Sleep(time.Minute)
		require.Zero(t, s.OpenWebSockets(), "no lock needs one now")
		require.NoError(t, c.Shutdown(t.Context()))
		h.CloseIdleConnections()
		goleak.VerifyNone(t, before)
	})
	t.Run("on loopback, with the client's own connections", func(t *testing.T) {
		s := relukkotest.NewServer(t)
		before := goleak.IgnoreCurrent()
		c, err := api.New(s.URL, s.APIKey)
		require.NoError(t, err)
		m := relukko.NewMutex(c, "arm", relukko.WithTTL(time.Second))
		for range 3 {
			held := lock(t, m)
			waiting, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			_, err := relukko.NewMutex(c, "arm").Lock(waiting)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NoError(t, m.Unlock(held))
		}
		require.NoError(t, c.Shutdown(t.Context()))
		goleak.VerifyNone(t, before)
	})
}

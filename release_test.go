package relukko_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

var release = relukkotest.On("DELETE", "/v1/locks/{id}")

type unlock struct {
	name   string
	fault  func(*relukkotest.Server)
	want   error
	lost   relukko.LossReason
	left   bool          // the lock still exists when Unlock returns
	atMost time.Duration // that Unlock takes
}

// unlocks are the outcomes of an Unlock after a fault.
var unlocks = []unlock{
	{name: "released"},
	{name: "released, and the reply lost", fault: func(s *relukkotest.Server) {
		s.CutNext(1, release)
	}, atMost: time.Second},
	{name: "released after a 503", fault: func(s *relukkotest.Server) {
		s.FailNext(1, 503)
	}, atMost: time.Second},
	{name: "released after five 503", fault: func(s *relukkotest.Server) {
		s.FailNext(5, 503)
	}, atMost: 10 * time.Second},
	{name: "released after a 429", fault: func(s *relukkotest.Server) {
		s.FailNext(1, 429, "Retry-After", "3")
	}, atMost: 4 * time.Second},
	{name: "released after a 404 of a proxy", fault: func(s *relukkotest.Server) {
		s.AnswerNext(2, release, relukkotest.Answer{Status: 404, Body: "no such backend"})
	}, atMost: time.Second},
	{name: "lost", fault: func(s *relukkotest.Server) {
		s.Delete("arm")
	}, want: relukko.ErrLockLost, lost: relukko.LossDeleted},
	{
		name: "dark", fault: (*relukkotest.Server).GoDark,
		want: relukko.ErrNotReleased, left: true, atMost: 10 * time.Second,
	},
	{name: "unavailable", fault: func(s *relukkotest.Server) {
		s.FailNext(-1, 503)
	}, want: relukko.ErrNotReleased, left: true, atMost: 10 * time.Second},
	{
		name: "stopped", fault: (*relukkotest.Server).Stop,
		want: relukko.ErrNotReleased, left: true, atMost: 10 * time.Second,
	},
	// Two attempts have no response within the 10 s.
	{name: "released, and all replies held", fault: func(s *relukkotest.Server) {
		s.HoldReplies(release)
	}, want: relukko.ErrNotReleased, atMost: 10 * time.Second},
	{name: "refused", fault: func(s *relukkotest.Server) {
		s.FailNext(-1, http.StatusForbidden)
	}, want: relukko.ErrNotReleased, left: true},
}

func TestUnlockTellsTheTruth(t *testing.T) {
	for _, row := range unlocks {
		bubble(t, row.name, func(t *testing.T, s *relukkotest.Server) { row.test(t, s) })
		bubble(t, row.name+", without extensions", func(t *testing.T, s *relukkotest.Server) {
			original(s)
			row.test(t, s)
		})
	}
}

func (row *unlock) test(t *testing.T, s *relukkotest.Server) {
	s.RefuseWebSockets(true) // Unlock itself discovers the deletion
	losses := make(chan error, 2)
	m := relukko.NewMutex(s.Client(), "arm",
		relukko.WithOnLost(func(err *relukko.LostError) { losses <- err }))
	ctx, cancel := context.WithCancel(t.Context())
	held, err := m.Lock(ctx)
	require.NoError(t, err)
	cancel() // no effect on Unlock
	time.Sleep(1500 * time.Millisecond)
	if row.fault != nil {
		row.fault(s)
	}
	start := time.Now()
	err = m.Unlock(held)
	require.LessOrEqual(t, time.Since(start), row.atMost+time.Millisecond)
	require.Error(t, session(t, held).CleanupContext().Err())
	require.ErrorIs(t, err, row.want)
	if err != nil {
		require.Contains(t, err.Error(), `lock "arm"`)
	}
	var lost *relukko.LostError
	if row.lost != 0 {
		require.ErrorAs(t, err, &lost)
		require.Equal(t, row.lost, lost.Reason)
		require.Equal(t, err, <-losses)
	}
	require.Equal(t, row.left, len(s.Locks()) == 1)
	require.ErrorIs(t, m.Unlock(held), relukko.ErrNotLocked, "a second time")
	s.Heal()
	s.Start(true)
	time.Sleep(30 * time.Second) // the release is retried within the lease
	if row.name != "refused" {
		require.Empty(t, s.Locks())
	}
	synctest.Wait()
	require.Empty(t, losses)
	if row.name != "refused" {
		again := lock(t, m)
		require.NoError(t, m.Unlock(again))
	}
}

func TestUnlockReleasesALostLockInTheBackground(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(2*time.Second))
		held := lock(t, m)
		time.Sleep(5 * time.Second)
		s.GoDark()
		<-held.Done()
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		time.Sleep(20 * time.Second)
		require.Len(t, s.Locks(), 1, "within its grace")
		s.ComeBack()
		time.Sleep(10 * time.Second)
		require.Empty(t, s.Locks())
	})
}

func TestUnlockNeverReleasesAnotherLock(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMutex(s.Client(), "arm")
		require.ErrorIs(t, m.Unlock(t.Context()), relukko.ErrNotLocked)
		first := lock(t, m)
		require.NoError(t, m.Unlock(first))
		second := lock(t, m)
		require.ErrorIs(t, m.Unlock(first), relukko.ErrNotLocked, "the first session has ended")
		require.NoError(t, second.Err())
		s.Delete("arm")
		other := relukko.NewMutex(s.Client(), "arm")
		otherHeld := lock(t, other)
		require.ErrorIs(t, m.Unlock(second), relukko.ErrLockLost)
		time.Sleep(time.Minute)
		require.NoError(t, otherHeld.Err())
		require.NoError(t, other.Unlock(context.Background()), "any other context works")
	})
}

func TestShutdownWaitsForHolders(t *testing.T) {
	bubble(t, "waits", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		m := relukko.NewMutex(c, "arm", relukko.WithTTL(3*time.Second))
		held := lock(t, m)
		waiting := make(chan error, 1)
		go func() {
			_, err := m.Lock(t.Context())
			waiting <- err
		}()
		elsewhere := relukko.NewMutex(c, "arm")
		go func() {
			_, err := elsewhere.Lock(t.Context())
			waiting <- err
		}()
		time.Sleep(time.Second)
		closed := make(chan error, 1)
		go func() { closed <- c.Shutdown(t.Context()) }()
		synctest.Wait()
		for range 2 {
			err := <-waiting
			require.ErrorContains(t, err, "closed")
		}
		_, err := m.TryLock(t.Context())
		require.ErrorContains(t, err, "closed")
		time.Sleep(time.Minute)
		require.Empty(t, closed)
		require.NoError(t, held.Err(), "the heartbeat goes on")
		require.NoError(t, m.Unlock(held))
		require.NoError(t, <-closed)
		require.Empty(t, s.Locks())
	})
	bubble(t, "abandons", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		m := relukko.NewMutex(c, "arm")
		held := lock(t, m)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		err := c.Shutdown(ctx)
		require.ErrorContains(t, err, `lock "arm"`)
		require.Equal(t, 5*time.Second, time.Since(start))
		requireLost(t, held, relukko.LossUnreachable)
		require.ErrorContains(t, context.Cause(held), "closed")
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		require.Len(t, s.Locks(), 1, "the lock expires on the backend")
		s.Delete("arm")
	})
}

// TestReleaseIsRetriedWhileTheLockMayExist has a lock that exists for 10 min, unless it is leased,
// since it was never renewed. For the client the lease is shorter, since a renewal was sent.
func TestReleaseIsRetriedWhileTheLockMayExist(t *testing.T) {
	plainlyOnEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(2*time.Second))
		held := lock(t, m)
		swept := leased(t, s, 2*time.Second)
		s.FailNext(-1, 503)
		time.Sleep(1500 * time.Millisecond)
		require.NoError(t, held.Err())
		require.ErrorIs(t, m.Unlock(held), relukko.ErrNotReleased)
		time.Sleep(5 * time.Minute)
		require.Equal(t, swept, len(s.Locks()) == 0)
		s.Heal()
		time.Sleep(5 * time.Second)
		require.Empty(t, s.Locks())
	})
}

// TestReleaseDoesNotWaitForASilentStream has a stream that goes dark, and then a server that is
// down for a part of the time that Unlock takes.
func TestReleaseDoesNotWaitForASilentStream(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		n := newStreamNet(t, s)
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(10*time.Second))
		held := lock(t, m)
		n.Each(func([]byte, bool) faultnet.Fate { return faultnet.Dark })
		time.AfterFunc(time.Second, s.Stop)
		time.AfterFunc(8*time.Second, func() { s.Start(true) })
		start := time.Now()
		require.NoError(t, m.Unlock(held))
		require.Less(t, time.Since(start), 8500*time.Millisecond)
		require.Empty(t, s.Locks())
	})
}

func TestReleaseOfALostLockIsRetriedWhileItMayExist(t *testing.T) {
	plainlyOnEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(2*time.Second))
		held := lock(t, m)
		swept := leased(t, s, 2*time.Second)
		s.FailNext(-1, 503)
		<-held.Done()
		requireLost(t, held, relukko.LossUnreachable)
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		time.Sleep(5 * time.Minute)
		require.Equal(t, swept, len(s.Locks()) == 0)
		s.Heal()
		time.Sleep(5 * time.Second)
		require.Empty(t, s.Locks())
	})
}

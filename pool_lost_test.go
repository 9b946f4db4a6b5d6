package relukko_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// While a goroutine that has lost a member is inside, no other one of its pool gets that.
func TestPoolKeepsOutOfALostMember(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		p := relukko.NewPool(s.Client(), benches[:1])
		held, name := lockAny(t, p)
		require.True(t, s.Delete(name))
		<-held.Done()
		_, err := p.TryLock(t.Context())
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.ErrorContains(t, err, "has not called Unlock yet")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = p.Lock(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		require.Empty(t, s.Locks(), "no orphans")

		next := locking(t, p)
		time.Sleep(time.Minute)
		require.Empty(t, next)
		require.ErrorIs(t, p.Unlock(held), relukko.ErrLockLost)
		require.NoError(t, p.Unlock(<-next))
	})
}

// A lost member, whose goroutine has not called Unlock, keeps nobody from the others. It counts
// again as soon as that goroutine calls Unlock.
func TestPoolGoesOnWithoutALostMember(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		p := relukko.NewPool(s.Client(), benches)
		held, name := lockAny(t, p)
		time.Sleep(2 * time.Second) // the first heartbeat
		require.True(t, s.Delete(name))
		<-held.Done()

		second, err := p.TryLock(t.Context())
		require.NoError(t, err)
		third, _ := lockAny(t, p)
		require.NotEqual(t, name, session(t, second).Name())
		require.NotEqual(t, name, session(t, third).Name())
		_, err = p.TryLock(t.Context())
		require.ErrorIs(t, err, relukko.ErrLocked)

		next := locking(t, p)
		time.Sleep(time.Minute)
		require.Empty(t, next)
		require.Len(t, s.Locks(), 2, "the free member is not kept while it waits")
		require.ErrorIs(t, p.Unlock(held), relukko.ErrLockLost)
		start := time.Now()
		fourth := <-next
		require.Less(t, time.Since(start), time.Second)
		require.Equal(t, name, session(t, fourth).Name())
		for _, held := range []context.Context{second, third, fourth} {
			require.NoError(t, p.Unlock(held))
		}
		require.Empty(t, s.Locks())
	})
}

// When a lost member counts again, a Lock that waits for the others keeps its place there.
func TestPoolKeepsItsPlaceWhenALostMemberCountsAgain(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		others := s.NewLink().Client()
		m1, m2 := relukko.NewMutex(others, "bench-1"), relukko.NewMutex(others, "bench-2")
		held2 := lock(t, m2)
		p := relukko.NewPool(s.Client(), benches[:2])
		held, name := lockAny(t, p)
		require.Equal(t, "bench-1", name)
		require.True(t, s.Delete(name))
		<-held.Done()
		held1 := lock(t, m1)
		first := locking(t, p)
		time.Sleep(time.Second)
		after := relukko.NewMutex(others, "bench-2")
		second := locking(t, after)
		time.Sleep(time.Second)
		require.ErrorIs(t, p.Unlock(held), relukko.ErrLockLost)
		time.Sleep(time.Second)
		require.NoError(t, m2.Unlock(held2))
		got := <-first
		require.Equal(t, "bench-2", session(t, got).Name())
		require.Empty(t, second)
		require.NoError(t, p.Unlock(got))
		require.NoError(t, after.Unlock(<-second))
		require.NoError(t, m1.Unlock(held1))
	})
}

// While all members are lost, a Lock waits as for other holders: it is reported, Shutdown ends it,
// and the time of WithMaxHold has not begun.
func TestPoolWaitsForALostMember(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		var log bytes.Buffer
		waits := make(chan relukko.Waiting, 100)
		p := relukko.NewPool(c, benches[:1], relukko.WithMaxHold(10*time.Second),
			relukko.WithOnWait(func(w relukko.Waiting) { waits <- w }),
			relukko.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		held, name := lockAny(t, p)
		require.True(t, s.Delete(name))
		<-held.Done()
		next := locking(t, p)
		time.Sleep(2*time.Minute + time.Millisecond)
		synctest.Wait()
		require.Empty(t, next)
		require.Empty(t, s.Locks(), "nothing is kept while it waits")
		require.Len(t, waits, 1)
		require.Contains(t, log.String(), "still waiting for a lock")
		require.ErrorIs(t, p.Unlock(held), relukko.ErrLockLost)
		held = <-next
		time.Sleep(9 * time.Second)
		require.NoError(t, held.Err())
		time.Sleep(2 * time.Second)
		require.Equal(t, relukko.ErrHeldTooLong, context.Cause(held))
		require.True(t, s.Delete(name))
		<-session(t, held).Done()

		failed := make(chan error)
		go func() {
			_, err := p.Lock(context.Background())
			failed <- err
		}()
		time.Sleep(time.Second)
		go c.Shutdown(t.Context())
		err := <-failed
		require.ErrorIs(t, err, api.ErrClosed)
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.ErrorContains(t, err, `"bench-1": a goroutine of this process has lost it`)
		require.ErrorIs(t, p.Unlock(held), relukko.ErrLockLost)
	})
}

package relukko_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// TestCrashCostsTTLAndGrace takes a holder's network away for ever. To the backend that is a crash.
func TestCrashCostsTTLAndGrace(t *testing.T) {
	const ttl, grace = 30 * time.Second, 3 * time.Minute
	type cost struct{ least, most time.Duration } // from the crash until the name is free
	for _, row := range []struct {
		name   string
		after  time.Duration // from Lock to the crash
		leased cost
		others cost
	}{
		{
			"after a heartbeat", 45 * time.Second,
			cost{ttl*2/3 + ttl/10, ttl + ttl/10}, cost{ttl*2/3 + grace, ttl + grace},
		},
		{
			"before the first heartbeat", 900 * time.Millisecond,
			cost{ttl + ttl/10 - time.Second, ttl + ttl/10},
			cost{12 * time.Minute, 13 * time.Minute},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
				link := s.NewLink()
				m := relukko.NewMutex(link.Client(), "arm", relukko.WithTTL(ttl))
				held := lock(t, m)
				want := row.others
				if leased(t, s, ttl) {
					want = row.leased
				}
				acquired := lockAsync(t, relukko.NewMutex(s.Client(), "arm"))
				time.Sleep(row.after)
				link.GoDark()
				crashed := time.Now()
				free := (<-acquired).Sub(crashed)
				<-acquired
				most := want.most + time.Second // until the next sweep
				if b.polls {
					most += 5 * time.Second
				}
				require.GreaterOrEqual(t, free, want.least)
				require.LessOrEqual(t, free, most)
				requireLost(t, held, relukko.LossUnreachable)
				s.Heal()
				require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
			})
		})
	}
}

// TestCrashCostsAShortTTLAndASecond, also when the holder has waited for the lock.
func TestCrashCostsAShortTTLAndASecond(t *testing.T) {
	for _, waited := range []time.Duration{0, time.Second, time.Minute} {
		bubble(t, waited.String(), func(t *testing.T, s *relukkotest.Server) {
			const ttl = 5 * time.Second
			first := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(ttl))
			link := s.NewLink()
			crashing := relukko.NewMutex(link.Client(), "arm", relukko.WithTTL(ttl))
			time.Sleep(ttl) // since the server has started
			if waited > 0 {
				held := lock(t, first)
				time.AfterFunc(waited, func() { first.Unlock(held) })
			}
			lost := lock(t, crashing)
			link.GoDark()
			crashed := time.Now()
			held := lock(t, first)
			require.Less(t, time.Since(crashed), ttl+time.Second+100*time.Millisecond)
			require.NoError(t, first.Unlock(held))
			require.ErrorIs(t, crashing.Unlock(lost), relukko.ErrLockLost)
			s.Heal()
		})
	}
}

// lockMany locks n names, one after the other, with a TTL of 1 min.
func lockMany(t *testing.T, c *api.Client, prefix string, n int) []*relukko.Session {
	t.Helper()
	var sessions []*relukko.Session
	for i := range n {
		held := lock(t, relukko.NewMutex(c, fmt.Sprint(prefix, i)))
		sessions = append(sessions, session(t, held))
	}
	return sessions
}

func unlockAll(t *testing.T, sessions []*relukko.Session) {
	t.Helper()
	for _, s := range sessions {
		require.NoError(t, s.Unlock())
	}
}

// TestOneFaultNeverMakesTwo bounds the requests of a recovery, for locks whose second heartbeats
// are due 19 to 21 s after Lock.
func TestOneFaultNeverMakesTwo(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		const clients = 10
		var sessions []*relukko.Session
		for i := range clients {
			sessions = append(sessions, lockMany(t, s.Client(), fmt.Sprint("arm-", i, "-"), 20)...)
		}
		time.Sleep(5 * time.Second)
		before := s.Requests("", "")
		s.DropWebSockets()
		time.Sleep(10 * time.Second)
		require.LessOrEqual(t, s.Requests("", "")-before, 4*clients,
			"each client connects again, looks for the stream and lists the locks once")
		unlockAll(t, sessions)
	})
	plainly(t, "a renewal hangs", func(t *testing.T, s *relukkotest.Server) {
		const locks = 100
		sessions := lockMany(t, s.Client(), "arm-", locks)
		time.Sleep(5 * time.Second)
		var hung atomic.Bool
		renewal := relukkotest.On("PUT", "/v1/locks/{id}/keep_alive")
		s.HoldReplies(func(r *http.Request) bool {
			return renewal(r) && hung.CompareAndSwap(false, true)
		})
		before := s.Requests("", "")
		time.Sleep(25 * time.Second)
		require.True(t, hung.Load())
		require.LessOrEqual(t, s.Requests("", "")-before, locks+5, "only one renewal is repeated")
		time.Sleep(time.Minute)
		require.Equal(t, 1, s.WebSockets(), "the WebSocket is kept")
		unlockAll(t, sessions)
		s.Heal()
	})
}

// TestKeptConnectionsThatAreDeadCostOneTimeLimit restarts the backend in the dark, so that all
// connections that a client keeps are dead without its knowledge.
func TestKeptConnectionsThatAreDeadCostOneTimeLimit(t *testing.T) {
	test := func(t *testing.T, s *relukkotest.Server, _ backend) {
		c := s.Client()
		var g errgroup.Group
		for i := range 30 {
			g.Go(func() error {
				_, err := c.Create(t.Context(), fmt.Sprint("other-", i), "")
				return err
			})
		}
		require.NoError(t, g.Wait())
		held := lock(t, relukko.NewMutex(c, "held", relukko.WithTTL(30*time.Second)))
		s.GoDark()
		s.Start(true)
		s.ComeBack()
		start := time.Now()
		m := relukko.NewMutex(c, "arm")
		require.NoError(t, m.Unlock(lock(t, m)))
		require.Less(t, time.Since(start), 16*time.Second)
		time.Sleep(time.Minute)
		require.NoError(t, session(t, held).Unlock())
	}
	onEach(t, test)
	plainly(t, "our backend without a stream", func(t *testing.T, s *relukkotest.Server) {
		test(t, s, backend{})
	})
}

package relukko_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// TestPriorityDecidesTheOrder has 50 waiters of mixed priorities, who come at intervals at which
// that decides. They are served exactly by arrival less ten minutes for each step, also if the
// server is restarted while they wait.
func TestPriorityDecidesTheOrder(t *testing.T) {
	for _, restart := range []bool{false, true} {
		bubble(t, fmt.Sprint("restart: ", restart), func(t *testing.T, s *relukkotest.Server) {
			const waiters = 30
			rnd := rand.New(rand.NewPCG(17, 4))
			holder := relukko.NewMutex(s.NewLink().Client(), "arm")
			held := lock(t, holder)
			clients := []*relukkotest.Link{s.NewLink(), s.NewLink(), s.NewLink()}
			type waiter struct{ number, rank int }
			var want []waiter
			var mu sync.Mutex
			var order []int
			var all sync.WaitGroup
			for i := range waiters {
				priority := rnd.IntN(21) - 10
				want = append(want, waiter{i, 3*i - 10*priority}) // in minutes
				opts := []relukko.Option{relukko.WithPriority(priority)}
				c := clients[i%len(clients)].Client()
				var l locker = relukko.NewMutex(c, "arm", opts...)
				if i%2 == 0 {
					l = relukko.NewPool(c, []string{"arm", fmt.Sprint("leg-", i)}, opts...)
					other := relukko.NewMutex(s.NewLink().Client(), fmt.Sprint("leg-", i))
					defer other.Unlock(lock(t, other))
				}
				all.Go(func() {
					held, err := l.Lock(t.Context())
					if err != nil {
						t.Errorf("waiter %d: %v", i, err)
						return
					}
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
					if err := l.Unlock(held); err != nil {
						t.Errorf("waiter %d: %v", i, err)
					}
				})
				time.Sleep(3*time.Minute + 17*time.Millisecond) // no ties
				if restart && i == waiters/2 {
					s.Start(true)
					time.Sleep(3 * time.Minute)
					for j := range want {
						want[j].rank -= 3 // the later ones come 3 min later
					}
				}
			}
			if restart {
				s.Start(true)
				time.Sleep(3 * time.Second)
			}
			require.NoError(t, holder.Unlock(held))
			all.Wait()
			slices.SortStableFunc(want, func(a, b waiter) int { return a.rank - b.rank })
			var numbers []int
			for _, w := range want {
				numbers = append(numbers, w.number)
			}
			require.Equal(t, numbers, order)
		})
	}
}

// isWanted reports whether the channel of Wanted is closed.
func isWanted(s *relukko.Session) bool {
	synctest.Wait()
	select {
	case <-s.Wanted():
		return true
	default:
		return false
	}
}

func TestWanted(t *testing.T) {
	bubble(t, "another client", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		require.False(t, isWanted(session(t, held)))
		ctx, cancel := context.WithCancel(t.Context())
		other := s.NewLink().Client()
		p := relukko.NewPool(other, []string{"arm", "leg"})
		leg, err := p.Lock(ctx)
		require.NoError(t, err)
		defer p.Unlock(leg)
		require.False(t, isWanted(session(t, held)), "the other was free")
		_, err = p.TryLock(t.Context())
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.False(t, isWanted(session(t, held)), "a TryLock does not wait")
		failed := make(chan error)
		go func() {
			_, err := p.Lock(ctx)
			failed <- err
		}()
		require.True(t, isWanted(session(t, held)))
		cancel()
		require.ErrorIs(t, <-failed, context.Canceled)
		require.True(t, isWanted(session(t, held)), "it stays closed")
		require.NoError(t, m.Unlock(held))
		require.True(t, isWanted(session(t, held)))

		held = lock(t, m)
		require.False(t, isWanted(session(t, held)), "another session")
		require.NoError(t, m.Unlock(held))
	})
	bubble(t, "right after the grant", func(t *testing.T, s *relukkotest.Server) {
		first := relukko.NewMutex(s.NewLink().Client(), "arm")
		held := lock(t, first)
		second := relukko.NewMutex(s.Client(), "arm")
		secondHeld := locking(t, second)
		third := relukko.NewMutex(s.NewLink().Client(), "arm")
		thirdHeld := locking(t, third)
		require.True(t, isWanted(session(t, held)))
		require.NoError(t, first.Unlock(held))
		held = <-secondHeld
		require.True(t, isWanted(session(t, held)))
		require.NoError(t, second.Unlock(held))
		held = <-thirdHeld
		require.False(t, isWanted(session(t, held)))
		require.NoError(t, third.Unlock(held))
	})
	bubble(t, "after a reconnect", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		time.Sleep(2 * time.Second) // the next heartbeat is due 18 s later
		s.RefuseWebSockets(true)
		s.DropWebSockets()
		other := relukko.NewMutex(s.NewLink().Client(), "arm")
		next := locking(t, other)
		time.Sleep(time.Second)
		require.False(t, isWanted(session(t, held)))
		s.RefuseWebSockets(false)
		time.Sleep(8 * time.Second)
		require.True(t, isWanted(session(t, held)))
		require.NoError(t, m.Unlock(held))
		require.NoError(t, other.Unlock(<-next))
	})
	for name, opts := range map[string][]relukko.Option{
		"in one process": nil, "in one process, handed off": {relukko.WithHandoff()},
	} {
		bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
			m := relukko.NewMutex(s.Client(), "arm", opts...)
			held := lock(t, m)
			require.False(t, isWanted(session(t, held)))
			next, last := locking(t, m), locking(t, m)
			require.True(t, isWanted(session(t, held)))
			require.NoError(t, m.Unlock(held))
			held = <-next
			require.True(t, isWanted(session(t, held)))
			require.NoError(t, m.Unlock(held))
			held = <-last
			require.False(t, isWanted(session(t, held)))
			require.NoError(t, m.Unlock(held))
		})
	}
	bubble(t, "another client, handed off", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithHandoff())
		held := lock(t, m)
		next := locking(t, m)
		other := relukko.NewMutex(s.NewLink().Client(), "arm")
		last := locking(t, other)
		require.NoError(t, m.Unlock(held))
		require.Empty(t, last)
		held = <-next
		require.True(t, isWanted(session(t, held)))
		require.NoError(t, m.Unlock(held))
		require.NoError(t, other.Unlock(<-last))
	})
	plainly(t, "never with plain requests", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		other := relukko.NewMutex(s.NewLink().Client(), "arm")
		next := locking(t, other)
		time.Sleep(time.Minute)
		require.False(t, isWanted(session(t, held)))
		require.NoError(t, m.Unlock(held))
		require.NoError(t, other.Unlock(<-next))
	})
}

func TestWantedWithin50msOnLoopback(t *testing.T) {
	s := relukkotest.NewServer(t)
	m := relukko.NewMutex(s.Client(), "arm")
	other := relukko.NewMutex(s.NewLink().Client(), "arm")
	var longest time.Duration
	for range 20 {
		held := lock(t, m)
		start := time.Now()
		next := lockSoon(t, other)
		<-session(t, held).Wanted()
		longest = max(longest, time.Since(start))
		require.NoError(t, m.Unlock(held))
		require.NoError(t, other.Unlock(<-next))
	}
	t.Logf("%v at most", longest)
	require.Less(t, longest, 50*time.Millisecond)
}

func TestMaxHold(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithMaxHold(5*time.Minute))
		held := lock(t, m)
		start := time.Now()
		<-held.Done()
		require.Equal(t, 5*time.Minute, time.Since(start))
		require.Equal(t, relukko.ErrHeldTooLong, context.Cause(held))
		sess := session(t, held)
		require.NoError(t, sess.Err(), "it is still held")
		require.NoError(t, sess.CleanupContext().Err())
		time.Sleep(time.Hour)
		require.NoError(t, sess.Err(), "and renewed")
		require.Equal(t, []string{"arm"}, names(s))
		require.NoError(t, m.Unlock(held))
		require.Equal(t, relukko.ErrUnlocked, context.Cause(sess.CleanupContext()))
		require.Empty(t, s.Locks())

		err := m.Do(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		require.Equal(t, relukko.ErrHeldTooLong, err)

		held = lock(t, m)
		require.NoError(t, m.Unlock(held))
		require.Equal(t, relukko.ErrUnlocked, context.Cause(held))
		synctest.Wait()
	})
}

func TestReason(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		for _, row := range []struct {
			opts []relukko.Option
			want string // a regular expression
		}{
			{
				[]relukko.Option{relukko.WithReason("flash 1.2")},
				`^.+@.+/\d+ \(flash 1\.2\) #\w{12}$`,
			},
			{
				[]relukko.Option{relukko.WithReason("flash"), relukko.WithCreator("bench-7")},
				`^bench-7 \(flash\) #\w{12}$`,
			},
			{
				[]relukko.Option{relukko.WithReason(""), relukko.WithCreator("bench-7")},
				`^bench-7 #\w{12}$`,
			},
			{
				[]relukko.Option{
					relukko.WithReason(strings.Repeat("r", 255)),
					relukko.WithCreator(strings.Repeat("c", 255)),
				},
				`^c{255} \(r{255}\) #\w{12}$`,
			},
		} {
			m := relukko.NewMutex(s.Client(), "arm", row.opts...)
			held := lock(t, m)
			require.Regexp(t, row.want, session(t, held).Info().Creator)
			require.NoError(t, m.Unlock(held))
		}
	})
}

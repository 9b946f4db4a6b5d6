package relukko_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestWithHandoffOneAcquisitionServesTheQueue(t *testing.T) {
	plainlyOnEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithHandoff())
		var in occupants
		var order []int
		var contexts []context.Context
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Microsecond)
				held, err := m.Lock(t.Context())
				require.NoError(t, err)
				in.enter()
				for _, before := range contexts {
					require.Error(t, before.Err(), "earlier holders have left")
				}
				order, contexts = append(order, i), append(contexts, held)
				require.NoError(t, session(t, held).Err())
				time.Sleep(time.Millisecond)
				require.NoError(t, held.Err())
				in.leave()
				require.NoError(t, m.Unlock(held))
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, in.most.Load())
		first := session(t, contexts[0])
		for i, held := range contexts {
			require.Equal(t, i, order[i], "first come, first served")
			own := session(t, held)
			require.ErrorIs(t, context.Cause(held), relukko.ErrUnlocked)
			require.ErrorIs(t, context.Cause(own.CleanupContext()), relukko.ErrUnlocked)
			require.ErrorIs(t, own.Err(), relukko.ErrUnlocked)
			require.Equal(t, first.Info().ID, own.Info().ID)
			require.Equal(t, first.Info().FencingToken, own.Info().FencingToken)
			if i > 0 {
				require.NotSame(t, first, own)
			}
		}
		require.Equal(t, 1, s.Requests("POST", "/v1/locks/"))
		require.Equal(t, 1, s.Requests("DELETE", "/v1/locks/{id}"))
		require.Empty(t, s.Locks())
	})
}

// startQueue starts three goroutines that lock m in turns, for as long as section each, until end
// is called.
func startQueue(t *testing.T, m *relukko.Mutex, section time.Duration) (end func()) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				held, err := m.Lock(t.Context())
				require.NoError(t, err)
				time.Sleep(section)
				require.NoError(t, m.Unlock(held))
			}
		})
	}
	return func() { close(stop); wg.Wait() }
}

func TestWithHandoffOtherProcessesGetTheirTurn(t *testing.T) {
	bubble(t, "after 100 ms", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithHandoff())
		end := startQueue(t, m, 10*time.Millisecond)
		defer func() {
			end()
			require.Empty(t, s.Locks())
		}()
		other := relukko.NewMutex(s.Client(), "arm")
		for range 10 {
			time.Sleep(130 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 151*time.Millisecond)
			held, err := other.Lock(ctx)
			cancel()
			require.NoError(t, err)
			require.NoError(t, other.Unlock(held))
		}
	})
	bubble(t, "after one long section", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithHandoff())
		defer startQueue(t, m, time.Second)()
		other := relukko.NewMutex(s.Client(), "arm")
		lock(t, other) // now it knows that the server queues
		require.NoError(t, other.Unlock(t.Context()))
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 2001*time.Millisecond)
			held, err := other.Lock(ctx)
			cancel()
			require.NoError(t, err)
			require.NoError(t, other.Unlock(held))
		}
	})
	bubble(t, "after 10,000 sections", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithHandoff())
		ids := make(map[string]int)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 12_000 {
					held, err := m.Lock(t.Context())
					require.NoError(t, err)
					ids[session(t, held).Info().ID]++
					synctest.Wait() // until the other one queues
					require.NoError(t, m.Unlock(held))
				}
			})
		}
		wg.Wait()
		require.Greater(t, len(ids), 2)
		for _, n := range ids {
			require.LessOrEqual(t, n, 10_001)
		}
	})
}

func TestWithHandoffALossEndsOneSession(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		var losses []error
		var mu sync.Mutex
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithHandoff(),
			relukko.WithOnLost(func(err *relukko.LostError) {
				mu.Lock()
				defer mu.Unlock()
				losses = append(losses, err)
			}))
		ctxs := make(chan context.Context)
		unlock := make(chan struct{})
		results := make(chan error)
		for range 3 {
			go func() {
				held, err := m.Lock(t.Context())
				require.NoError(t, err)
				ctxs <- held
				<-unlock
				results <- m.Unlock(held)
			}()
		}
		first := <-ctxs
		synctest.Wait() // until the others queue
		unlock <- struct{}{}
		require.NoError(t, <-results)
		second := <-ctxs
		time.Sleep(30 * time.Second) // the heartbeat goes on for the second one
		require.NoError(t, second.Err())
		require.Equal(t, session(t, first).Info().ID, session(t, second).Info().ID)
		s.Delete("arm")
		<-second.Done()
		requireLost(t, second, relukko.LossDeleted)
		require.ErrorIs(t, context.Cause(first), relukko.ErrUnlocked)
		require.ErrorIs(t, session(t, first).Err(), relukko.ErrUnlocked)
		unlock <- struct{}{}
		require.ErrorIs(t, <-results, relukko.ErrLockLost)
		third := <-ctxs
		require.NotEqual(t, session(t, second).Info().ID, session(t, third).Info().ID)
		require.NoError(t, third.Err())
		unlock <- struct{}{}
		require.NoError(t, <-results)
		require.Empty(t, s.Locks())
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, losses, 1)
	})
}

func TestWithHandoffReleasesWhatIsNotTakenOver(t *testing.T) {
	bubble(t, "the waiter gives up in the Unlock", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		m := relukko.NewMutex(c, "arm", relukko.WithHandoff())
		for range 2000 {
			held := lock(t, m)
			ctx, cancel := context.WithCancel(t.Context())
			waited := make(chan error)
			go func() {
				held, err := m.Lock(ctx)
				if err == nil {
					err = m.Unlock(held)
				}
				waited <- err
			}()
			synctest.Wait()
			go func() { yield(40); cancel() }()
			yield(10)
			require.NoError(t, m.Unlock(held))
			<-waited
			synctest.Wait()
			require.Empty(t, s.Locks())
		}
		require.NoError(t, c.Shutdown(t.Context()))
	})
	bubble(t, "the client closes", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		m := relukko.NewMutex(c, "arm", relukko.WithHandoff())
		held := lock(t, m)
		for range 10 {
			go func() {
				if held, err := m.Lock(t.Context()); err == nil {
					m.Unlock(held)
				}
			}()
		}
		synctest.Wait()
		go m.Unlock(held)
		require.NoError(t, c.Shutdown(t.Context()))
		require.Empty(t, s.Locks())
	})
}

// yield yields the processor a random number of times, below most, to hit short windows.
func yield(most int) {
	for range rand.N(most) {
		runtime.Gosched()
	}
}

func TestWithHandoffASecondUnlockReleasesNothing(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithHandoff())
		held := lock(t, m)
		next := make(chan context.Context)
		go func() { next <- lock(t, m) }()
		synctest.Wait()
		require.NoError(t, m.Unlock(held))
		other := <-next
		require.ErrorIs(t, m.Unlock(held), relukko.ErrNotLocked)
		require.NoError(t, other.Err())
		_, err := m.TryLock(t.Context())
		var locked *relukko.LockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, session(t, other).Info().ID, locked.Holder.ID)
		require.NoError(t, m.Unlock(other))
		require.Empty(t, s.Locks())
	})
}

// ownContext is a context that package context does not know, so that it starts a goroutine for
// each child.
type ownContext struct {
	context.Context
	end  chan struct{}
	done func()
}

func (c *ownContext) Done() <-chan struct{} { c.done(); return c.end }

func TestWithHandoffAnExpiredLeaseLeaksNothing(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		ahead := relukko.Skew(c)
		m := relukko.NewMutex(c, "arm", relukko.WithHandoff())
		first := lock(t, m)
		done := func() {}
		parent := &ownContext{t.Context(), make(chan struct{}), func() { done() }}
		next := make(chan context.Context)
		go func() {
			held, err := m.Lock(parent)
			require.NoError(t, err)
			next <- held
		}()
		synctest.Wait()
		done = func() { ahead.Store(int64(time.Hour)) } // while it takes over
		require.NoError(t, m.Unlock(first))
		second := <-next
		require.NotEqual(t, session(t, first).Info().ID, session(t, second).Info().ID)
		require.NoError(t, m.Unlock(second))
		require.NoError(t, c.Shutdown(t.Context()))
		// The bubble ends only when no goroutine waits for parent's end.
	})
}

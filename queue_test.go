package relukko_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// pausing sets a back-off that pauses for d each time, and never stops.
func pausing(d time.Duration) relukko.Option {
	return relukko.WithBackOff(func() backoff.BackOff { return backoff.NewConstantBackOff(d) })
}

func TestNoMissedWakeUpWhenTheHeadOfTheQueueBacksOff(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		holder := relukko.NewMutex(s.NewLink().Client(), "arm")
		held := lock(t, holder)
		c := s.Client()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() {
			_, err := relukko.NewMutex(c, "arm", pausing(time.Hour)).Lock(ctx)
			first <- err
		}()
		synctest.Wait()
		acquired := lockAsync(t, relukko.NewMutex(c, "arm"))
		time.Sleep(time.Second)
		s.AnswerNext(1, create, relukkotest.Answer{Status: 503})
		time.Sleep(time.Minute) // the first one has sent a request, and pauses
		start := time.Now()
		require.NoError(t, holder.Unlock(held))
		select {
		case at := <-acquired:
			require.LessOrEqual(t, at.Sub(start), 2*time.Millisecond)
			<-acquired
		case <-time.After(10 * time.Minute):
			t.Error("the release was missed")
		}
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
	})
}

// TestOneWaiterOfAProcessPolls requires that waiters of one process do not poll one by one.
func TestOneWaiterOfAProcessPolls(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		s.RefuseWebSockets(true)
		holder := relukko.NewMutex(s.NewLink().Client(), "arm")
		held := lock(t, holder)
		c := s.Client()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 20 {
			m := relukko.NewMutex(c, "arm")
			wg.Go(func() {
				_, err := m.Lock(ctx)
				require.ErrorIs(t, err, context.Canceled)
			})
		}
		time.Sleep(time.Minute)
		before := s.Requests("POST", "")
		time.Sleep(10 * time.Minute)
		polls := s.Requests("POST", "") - before
		require.GreaterOrEqual(t, polls, 110)
		require.LessOrEqual(t, polls, 250, "2.5 s to 5 s apart")
		cancel()
		wg.Wait()
		require.NoError(t, holder.Unlock(held))
	})
}

// silences are the faults that leave requests without an answer.
var silences = map[string]func(*relukkotest.Server){
	"stopped": (*relukkotest.Server).Stop,
	"dark":    (*relukkotest.Server).GoDark,
}

// TestNothingHangsInSilenceInTheQueue requires that a waiter gives up after a minute without an
// answer, although the head of the queue does not.
func TestNothingHangsInSilenceInTheQueue(t *testing.T) {
	for name, fault := range silences {
		bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
			original(s)
			holder := relukko.NewMutex(s.NewLink().Client(), "arm")
			held := lock(t, holder)
			c := s.Client()
			ctx, cancel := context.WithCancel(t.Context())
			first := make(chan error)
			go func() {
				_, err := relukko.NewMutex(c, "arm", pausing(time.Second)).Lock(ctx)
				first <- err
			}()
			synctest.Wait()
			second := make(chan error)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				_, err := relukko.NewMutex(c, "arm").Lock(ctx)
				second <- err
			}()
			time.Sleep(time.Second)
			start := time.Now()
			fault(s)
			require.ErrorContains(t, <-second, "without an answer")
			require.LessOrEqual(t, time.Since(start), 66*time.Second)
			require.GreaterOrEqual(t, time.Since(start), 50*time.Second)
			cancel()
			require.Error(t, <-first)
			s.Start(true)
			s.Heal()
			holder.Unlock(held) // perhaps lost in that minute
		})
	}
}

func TestNothingHangsInSilenceWithManyWaiters(t *testing.T) {
	for name, fault := range silences {
		for _, shared := range []bool{false, true} {
			name := fmt.Sprintf("%s/one Mutex: %v", name, shared)
			bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
				original(s)
				holder := relukko.NewMutex(s.NewLink().Client(), "arm")
				held := lock(t, holder)
				c := s.Client()
				const many = 50
				errs := make(chan error, many)
				m := relukko.NewMutex(c, "arm")
				for range many {
					if !shared {
						m = relukko.NewMutex(c, "arm")
					}
					go func(m *relukko.Mutex) {
						_, err := m.Lock(t.Context())
						errs <- err
					}(m)
				}
				time.Sleep(time.Second)
				start := time.Now()
				fault(s)
				for range many {
					require.ErrorContains(t, <-errs, "without an answer")
				}
				require.LessOrEqual(t, time.Since(start), 66*time.Second)
				s.Start(true)
				s.Heal()
				holder.Unlock(held) // perhaps lost in that minute
				require.NoError(t, m.Unlock(lock(t, m)))
			})
		}
	}
}

// TestWithOnWaitReportsToTheWholeQueue requires that each waiter learns the holder, although only
// the head of the queue sends requests.
func TestWithOnWaitReportsToTheWholeQueue(t *testing.T) {
	for _, b := range backends {
		bubble(t, b.name, func(t *testing.T, s *relukkotest.Server) {
			if b.setUp != nil {
				b.setUp(s)
			}
			others := s.NewLink().Client()
			one := relukko.NewMutex(others, "arm", relukko.WithCreator("one"))
			other := relukko.NewMutex(others, "arm", relukko.WithCreator("other"))
			held := lock(t, one)
			c := s.Client()
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			holders := make([]string, 3)
			errs := make(chan error)
			for i := range holders {
				onWait := func(w relukko.Waiting) {
					mu.Lock()
					defer mu.Unlock()
					holders[i] = "" // unknown
					if w.Holder != nil {
						holders[i], _, _ = strings.Cut(w.Holder.Creator, " #")
					}
				}
				m := relukko.NewMutex(c, "arm", pausing(time.Second), relukko.WithOnWait(onWait))
				go func() {
					_, err := m.Lock(ctx)
					errs <- err
				}()
			}
			time.Sleep(time.Second)
			s.GoDark() // for the waiters
			time.Sleep(time.Second)
			s.Delete("arm")
			require.Error(t, one.Unlock(held))
			held = lock(t, other)
			s.ComeBack()
			time.Sleep(2 * time.Minute)
			mu.Lock()
			require.Equal(t, []string{"other", "other", "other"}, holders)
			mu.Unlock()
			cancel()
			for range holders {
				require.ErrorContains(t, <-errs, "held by other")
			}
			require.NoError(t, other.Unlock(held))
		}, b.opts...)
	}
}

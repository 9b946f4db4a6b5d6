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

// pausing is a back-off of one who has all the time in the world.
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
		time.Sleep(time.Minute) // the first one has looked, and pauses
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

// TestNothingHangsInSilenceInTheQueue: one's own minute counts, whoever stands
// before.
func TestNothingHangsInSilenceInTheQueue(t *testing.T) {
	for name, fault := range map[string]func(*relukkotest.Server){
		"stopped": (*relukkotest.Server).Stop,
		"dark":    (*relukkotest.Server).GoDark,
	} {
		bubble(t, name+"/one with more patience", func(t *testing.T, s *relukkotest.Server) {
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
			holder.Unlock(held) // it may have been lost in that minute, too
		})
		for _, shared := range []bool{false, true} {
			bubble(t, fmt.Sprintf("%s/many with as much, of one Mutex: %v", name, shared), func(t *testing.T, s *relukkotest.Server) {
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
				holder.Unlock(held) // it may have been lost in that minute, too
				require.NoError(t, m.Unlock(lock(t, m)))
			})
		}
	}
}

// TestWithOnWaitReportsToTheWholeQueue: only the first one asks, all are told.
func TestWithOnWaitReportsToTheWholeQueue(t *testing.T) {
	for _, b := range backends {
		bubble(t, b.name, func(t *testing.T, s *relukkotest.Server) {
			if b.setUp != nil {
				b.setUp(s)
			}
			others := s.NewLink().Client()
			one, other := relukko.NewMutex(others, "arm", relukko.WithCreator("one")), relukko.NewMutex(others, "arm", relukko.WithCreator("other"))
			held := lock(t, one)
			c := s.Client()
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			told := make([]string, 3)
			errs := make(chan error)
			for i := range told {
				m := relukko.NewMutex(c, "arm", pausing(time.Second), relukko.WithOnWait(func(w relukko.Waiting) {
					holder := w.Holder
					mu.Lock()
					defer mu.Unlock()
					told[i] = "" // nobody can tell
					if holder != nil {
						told[i], _, _ = strings.Cut(holder.Creator, " #")
					}
				}))
				go func() {
					_, err := m.Lock(ctx)
					errs <- err
				}()
			}
			time.Sleep(time.Second)
			s.GoDark() // for those who wait
			time.Sleep(time.Second)
			s.Delete("arm")
			require.Error(t, one.Unlock(held))
			held = lock(t, other)
			s.ComeBack()
			time.Sleep(2 * time.Minute)
			mu.Lock()
			require.Equal(t, []string{"other", "other", "other"}, told)
			mu.Unlock()
			cancel()
			for range told {
				require.ErrorContains(t, <-errs, "held by other")
			}
			require.NoError(t, other.Unlock(held))
		}, b.opts...)
	}
}

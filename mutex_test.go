package relukko_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// An uncontended section takes a request for the lock and one for its release, after the one that
// looks for the stream. Over that it takes no plain request at all.
func TestUncontendedIsTwoRequestsAndNoWebSocket(t *testing.T) {
	plainlyOnEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMutex(s.Client(), "arm")
		for range 3 {
			require.NoError(t, m.Unlock(lock(t, m)))
		}
		time.Sleep(time.Minute)
		require.Equal(t, 7, s.Requests("", ""))
		require.Equal(t, 1, s.Requests("GET", "/v1/stream"))
		require.Equal(t, 3, s.Requests("POST", "/v1/locks/"))
		require.Equal(t, 3, s.Requests("DELETE", "/v1/locks/{id}"))
		require.Zero(t, s.WebSockets())
	})
	bubble(t, "stream", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		for range 3 {
			require.NoError(t, m.Unlock(lock(t, m)))
		}
		require.Equal(t, 1, s.Requests("", ""))
		require.Equal(t, 1, s.OpenWebSockets())
		time.Sleep(time.Minute)
		require.Zero(t, s.OpenWebSockets(), "a connection that nothing needs is closed")
	})
}

func TestClientsExcludeEachOther(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		var in occupants
		var g errgroup.Group
		for i := range 4 {
			c := s.Client()
			mutexes := []*relukko.Mutex{relukko.NewMutex(c, "arm"), relukko.NewMutex(c, "arm")}
			for j := range 4 {
				m := mutexes[j/2]
				g.Go(func() error {
					for k := range 5 {
						err := m.Do(t.Context(), func(ctx context.Context) error {
							in.enter()
							defer in.leave()
							time.Sleep(time.Duration(i+j*k) * 100 * time.Millisecond)
							return ctx.Err()
						})
						if err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		require.NoError(t, g.Wait())
		require.EqualValues(t, 1, in.most.Load())
		require.Empty(t, s.Locks())
	})
}

func TestGoroutinesOfOneProcessExcludeEachOther(t *testing.T) {
	plainly(t, "first come, first served", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		var order []int
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				time.Sleep(time.Duration(i+1) * time.Millisecond)
				held, err := m.Lock(t.Context())
				require.NoError(t, err)
				order = append(order, i)
				require.NoError(t, m.Unlock(held))
			})
		}
		time.Sleep(time.Second)
		require.Equal(t, 1, s.Requests("POST", ""), "waiting here costs no requests")
		require.NoError(t, m.Unlock(held))
		wg.Wait()
		for i := range order {
			require.Equal(t, i, order[i])
		}
	})
	plainly(t, "a lost lock excludes until Unlock", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		time.Sleep(2 * time.Second)
		s.Delete("arm")
		<-held.Done()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := m.Lock(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = m.TryLock(t.Context())
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		require.NoError(t, m.Unlock(lock(t, m)))
	})
	plainly(t, "not re-entrant", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		ctx, cancel := context.WithTimeout(held, time.Minute)
		defer cancel()
		_, err := m.Lock(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, m.Unlock(held))
	})
}

func TestTryLock(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithCreator("bench-7"))
		held, err := m.TryLock(t.Context())
		require.NoError(t, err)
		for _, other := range []*relukko.Mutex{m, relukko.NewMutex(s.Client(), "arm")} {
			start := time.Now()
			failed, err := other.TryLock(t.Context())
			require.ErrorIs(t, err, relukko.ErrLocked)
			require.Less(t, time.Since(start), 10*time.Millisecond)
			var locked *relukko.LockedError
			require.ErrorAs(t, err, &locked)
			require.Equal(t, "arm", locked.Name)
			require.Error(t, failed.Err())
			if other == m {
				require.Contains(t, err.Error(), "held by bench-7", "this process knows the holder")
				require.Equal(t, session(t, held).Info().ID, locked.Holder.ID)
			}
			if locked.Holder != nil {
				require.Contains(t, err.Error(), "held by bench-7")
				require.NotContains(t, err.Error(), "#", "the mark is not shown")
			}
		}
		require.NoError(t, m.Unlock(held))
		other := relukko.NewMutex(s.Client(), "arm")
		held, err = other.TryLock(t.Context())
		require.NoError(t, err)
		require.NoError(t, other.Unlock(held))
	})
}

func TestDo(t *testing.T) {
	errWork := errors.New("it did not work")
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		free := func() {
			t.Helper()
			require.Empty(t, s.Locks())
			require.NoError(t, m.Unlock(lock(t, m)))
		}
		require.NoError(t, m.Do(t.Context(), func(ctx context.Context) error {
			require.Equal(t, "arm", session(t, ctx).Info().Name)
			return nil
		}))
		free()
		require.Same(t, errWork, m.Do(t.Context(), func(context.Context) error { return errWork }),
			"not wrapped")
		free()
		require.PanicsWithValue(t, "oh", func() {
			m.Do(t.Context(), func(context.Context) error { panic("oh") })
		})
		free()
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.Do(t.Context(), func(context.Context) error { runtime.Goexit(); return nil })
		}()
		<-done
		free()

		err := m.Do(t.Context(), func(ctx context.Context) error {
			time.Sleep(2 * time.Second)
			s.Delete("arm")
			<-ctx.Done()
			return errWork
		})
		require.ErrorIs(t, err, errWork)
		require.ErrorIs(t, err, relukko.ErrLockLost)
		free()

		var cause error
		err = m.Do(t.Context(), func(ctx context.Context) error {
			time.Sleep(2 * time.Second)
			s.Delete("arm")
			<-ctx.Done()
			cause = context.Cause(ctx)
			return fmt.Errorf("stopped: %w", cause)
		})
		require.ErrorIs(t, err, relukko.ErrLockLost)
		require.EqualError(t, err, "stopped: "+cause.Error(), "the loss is not repeated")
		free()

		cancelled, cancel := context.WithCancelCause(t.Context())
		cancel(errCancelled)
		err = m.Do(cancelled, func(context.Context) error { panic("must not be called") })
		require.ErrorIs(t, err, errCancelled)
		free()
	})
}

func TestLocker(t *testing.T) {
	bubble(t, "waits through a long outage", func(t *testing.T, s *relukkotest.Server) {
		lost := make(chan error, 1)
		var log bytes.Buffer
		warnings := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})
		m := relukko.NewMutex(s.Client(), "arm",
			relukko.WithOnLost(func(err *relukko.LostError) { lost <- err }),
			relukko.WithLogger(slog.New(warnings)))
		l := m.Locker()
		l.Lock()
		_, err := m.TryLock(t.Context())
		require.ErrorIs(t, err, relukko.ErrLocked)
		l.Unlock()
		s.Stop()
		go func() {
			time.Sleep(time.Hour)
			s.Start(false)
		}()
		start := time.Now()
		l.Lock()
		require.InDelta(t, time.Hour, time.Since(start), float64(10*time.Second))
		require.InDelta(t, 60, strings.Count(log.String(), "\n"), 5, "one message a minute")
		time.Sleep(2 * time.Second)
		s.Delete("arm")
		require.ErrorIs(t, <-lost, relukko.ErrLockLost)
		l.Unlock()
		require.Empty(t, s.Locks())
	})
	bubble(t, "panics if waiting cannot help", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		require.Panics(t, func() { relukko.NewMutex(c, "arm").Locker().Unlock() })
		require.Panics(t, func() { relukko.NewMutex(c, "").Locker().Lock() })
		wrong, err := api.New(s.URL, "wrong", api.WithHTTPClient(s.HTTPClient()))
		require.NoError(t, err)
		defer wrong.Shutdown(t.Context())
		require.Panics(t, func() { relukko.NewMutex(wrong, "arm").Locker().Lock() })
	})
}

func TestUnusableNamesAndOptions(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		for _, row := range []struct {
			name string
			opts []relukko.Option
			want string
		}{
			{"", nil, "the name is empty"},
			{strings.Repeat("x", 256), nil, "the name has 256 bytes"},
			{"a\nb", nil, "control character"},
			{"a\xff", nil, "UTF-8"},
			{"arm", []relukko.Option{relukko.WithTTL(0)}, "TTL"},
			{"arm", []relukko.Option{relukko.WithTTL(-time.Second)}, "TTL"},
			{"arm", []relukko.Option{relukko.WithTTL(1500 * time.Millisecond)}, "TTL"},
			{"arm", []relukko.Option{relukko.WithTTL(366 * 24 * time.Hour)}, "365 days"},
			{
				"arm", []relukko.Option{relukko.WithCreator("a\tb")},
				"the creator has a control character",
			},
			{"arm", []relukko.Option{relukko.WithReason("a\tb")}, "the reason has a control"},
			{
				"arm", []relukko.Option{relukko.WithReason(strings.Repeat("x", 256))},
				"the reason has 256 bytes",
			},
			{
				"arm", []relukko.Option{relukko.WithPriority(11)},
				"the priority must be from -10 to 10, not 11",
			},
			{"arm", []relukko.Option{relukko.WithPriority(-11)}, "the priority"},
			{"arm", []relukko.Option{relukko.WithMaxHold(-time.Second)}, "is negative: -1s"},
		} {
			m := relukko.NewMutex(c, row.name, row.opts...)
			require.Equal(t, row.name, m.Name())
			_, err := m.Lock(t.Context())
			require.ErrorContains(t, err, row.want)
			_, err = m.TryLock(t.Context())
			require.ErrorContains(t, err, row.want)
			require.ErrorIs(t, m.Unlock(t.Context()), relukko.ErrNotLocked)
		}
		require.Zero(t, s.Requests("", ""))
		longest := relukko.NewMutex(c, strings.Repeat("ä", 127))
		require.NoError(t, longest.Unlock(lock(t, longest)))
	})
}

func TestLockAfterShutdown(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		require.NoError(t, c.Shutdown(t.Context()))
		_, err := relukko.NewMutex(c, "arm").Lock(t.Context())
		require.ErrorIs(t, err, api.ErrClosed)
		require.EqualError(t, err, `relukko: lock "arm": not acquired: relukko: client closed`)
	})
}

func TestNilClient(t *testing.T) {
	m := relukko.NewMutex(nil, "arm")
	_, err := m.Lock(t.Context())
	require.ErrorContains(t, err, `relukko: lock "arm": the client is nil`)
	_, err = m.TryLock(t.Context())
	require.ErrorContains(t, err, "the client is nil")
	require.PanicsWithError(t, err.Error(), m.Locker().Lock)
}

func TestTrustMode(t *testing.T) {
	t.Setenv("RELUKKO_TRUST_ME_IT_IS_LOCKED", "yes")
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		_, err := m.TryLock(t.Context())
		require.ErrorIs(t, err, relukko.ErrLocked, "it still excludes goroutines of this process")
		time.Sleep(100 * time.Hour)
		require.NoError(t, held.Err())
		require.NoError(t, session(t, held).Err())
		require.True(t, session(t, held).LeaseEnd().IsZero())
		require.Equal(t, "WE TRUST YOU", session(t, held).Info().Name)
		require.Equal(t, "arm", session(t, held).Name(), "the name of the mutex, for checks")
		require.NoError(t, m.Unlock(held))
		require.NoError(t, m.Do(t.Context(), func(context.Context) error { return nil }))
		require.Zero(t, s.Requests("", ""))
	})
}

func TestFencingTokensIncrease(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		var last uint64
		for i := range 20 {
			m := relukko.NewMutex(s.Client(), "arm")
			held := lock(t, m)
			token := session(t, held).Info().FencingToken
			require.Greater(t, token, last)
			last = token
			if i%3 == 0 {
				s.Delete("arm")
			}
			m.Unlock(held)
		}
	})
}

func TestCreatorHasAFreshMark(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		marks := map[string]bool{}
		for i := range 100 {
			name := fmt.Sprint("arm-", i%2)
			m := relukko.NewMutex(s.Client(), name, relukko.WithCreator("bench-7"))
			held := lock(t, m)
			who, mark, ok := strings.Cut(session(t, held).Info().Creator, " #")
			require.True(t, ok)
			require.Equal(t, "bench-7", who)
			require.GreaterOrEqual(t, len(mark), 12)
			marks[mark] = true
			require.NoError(t, m.Unlock(held))
		}
		require.Len(t, marks, 100)
		m := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, m)
		require.Regexp(t, `^[^@]+@[^/]+/\d+ #[a-z0-9]{12}$`, session(t, held).Info().Creator)
		synctest.Wait()
		require.NoError(t, m.Unlock(held))
	})
}

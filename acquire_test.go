package relukko_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

var create = relukkotest.On("POST", "/v1/locks/")

// lockAsync starts a Lock and an Unlock, and returns when the Lock waits. The channel receives the
// time of the acquisition, and is closed after the Unlock.
func lockAsync(t *testing.T, m *relukko.Mutex) <-chan time.Time {
	t.Helper()
	acquired := make(chan time.Time, 1)
	go func() {
		held, err := m.Lock(context.Background())
		if err != nil {
			t.Errorf("Lock: %v", err)
		} else if acquired <- time.Now(); m.Unlock(held) != nil {
			t.Error("Unlock failed")
		}
		close(acquired)
	}()
	synctest.Wait()
	return acquired
}

func TestNoMissedWakeUpBeforePushIsUp(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		holder := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, holder)
		s.Latency(func(r *http.Request) (before, after time.Duration) {
			if strings.HasPrefix(r.URL.Path, "/ws/") {
				return 80 * time.Millisecond, 0
			}
			return 0, 0
		})
		start := time.Now()
		acquired := lockAsync(t, relukko.NewMutex(s.Client(), "arm"))
		time.Sleep(40 * time.Millisecond)
		require.NoError(t, holder.Unlock(held))
		require.LessOrEqual(t, (<-acquired).Sub(start), 85*time.Millisecond)
		<-acquired
	})
}

func TestNoMissedWakeUpWhenTheHeadOfTheQueueGivesUp(t *testing.T) {
	bubble(t, "between the event and its request", func(t *testing.T, s *relukkotest.Server) {
		like(httpapi.Original{Deleted: func(wire.Lock) any { return true }})(s)
		others := s.Client()
		holder, other := relukko.NewMutex(others, "arm"), relukko.NewMutex(others, "leg")
		held, leg := lock(t, holder), lock(t, other)
		s.Latency(func(*http.Request) (before, after time.Duration) { return 0, time.Millisecond })

		c := s.Client()
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() {
			_, err := relukko.NewMutex(c, "arm").Lock(ctx)
			first <- err
		}()
		time.Sleep(10 * time.Microsecond)
		acquired := lockAsync(t, relukko.NewMutex(c, "arm"))
		time.Sleep(time.Minute)
		require.NoError(t, other.Unlock(leg)) // from now on the first one delays its next request
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		require.NoError(t, holder.Unlock(held))
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		require.LessOrEqual(t, (<-acquired).Sub(start), 5*time.Millisecond)
		<-acquired
	})
}

func TestNoMissedWakeUpAfterALateCreate(t *testing.T) {
	bubble(t, "of a waiter that still queues", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		holder := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, holder)
		var n atomic.Int64
		parked := s.Hold(func(r *http.Request) bool { return create(r) && n.Add(1) == 1 })
		c := s.Client()
		second := make(chan time.Time, 1)
		go func() {
			m := relukko.NewMutex(c, "arm")
			held := lock(t, m)
			second <- time.Now()
			require.NoError(t, m.Unlock(held))
		}()
		time.Sleep(time.Millisecond)
		first := lockAsync(t, relukko.NewMutex(c, "arm"))
		time.Sleep(time.Second)
		s.Cut() // the client gives up the first create, which is still in flight
		time.Sleep(time.Minute)
		s.Latency(func(*http.Request) (before, after time.Duration) {
			return 50 * time.Millisecond, 0
		})
		require.NoError(t, holder.Unlock(held))
		start := time.Now()
		parked.Release()
		require.LessOrEqual(t, (<-second).Sub(start), 6*time.Second)
		<-first
		<-first
	})
}

func TestNoMissedWakeUp(t *testing.T) {
	const most = 5*time.Second + 10*time.Millisecond
	onEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		prompt := 2 * time.Millisecond
		if b.polls {
			prompt = most
		}
		holder := relukko.NewMutex(s.Client(), "arm")
		for i, release := range []func(context.Context){
			func(held context.Context) { require.NoError(t, holder.Unlock(held)) },
			func(held context.Context) { s.Delete("arm"); holder.Unlock(held) },
			func(held context.Context) { s.Expire("arm"); holder.Unlock(held) },
		} {
			for _, after := range []time.Duration{
				0, time.Millisecond, 100 * time.Millisecond, 7 * time.Second, 2 * time.Minute,
			} {
				held := lock(t, holder)
				acquired := lockAsync(t, relukko.NewMutex(s.Client(), "arm"))
				time.Sleep(after)
				start := time.Now()
				release(held)
				select {
				case at := <-acquired:
					require.LessOrEqual(t, at.Sub(start), prompt, "release %d after %v", i, after)
				case <-time.After(10 * time.Minute):
					t.Fatalf("release %d after %v was missed", i, after)
				}
				<-acquired
			}
		}
	})
}

func TestNoMissedWakeUpInAnOutage(t *testing.T) {
	const most = 5*time.Second + 10*time.Millisecond
	for _, b := range backends {
		bubble(t, b.name+"/without a WebSocket", func(t *testing.T, s *relukkotest.Server) {
			if b.setUp != nil {
				b.setUp(s)
			}
			holder := relukko.NewMutex(s.Client(), "arm")
			held := lock(t, holder)
			acquired := lockAsync(t, relukko.NewMutex(s.Client(), "arm"))
			time.Sleep(time.Minute)
			s.RefuseWebSockets(true)
			s.DropWebSockets()
			time.Sleep(10 * time.Millisecond)
			start := time.Now()
			require.NoError(t, holder.Unlock(held))
			require.LessOrEqual(t, (<-acquired).Sub(start), most)
			<-acquired
		}, b.opts...)
		bubble(t, b.name+"/across a restart", func(t *testing.T, s *relukkotest.Server) {
			if b.setUp != nil {
				b.setUp(s)
			}
			holder := relukko.NewMutex(s.Client(), "arm")
			held := lock(t, holder)
			acquired := lockAsync(t, relukko.NewMutex(s.Client(), "arm"))
			time.Sleep(5 * time.Second)
			s.Stop()
			time.Sleep(10 * time.Second)
			s.Start(true)
			time.Sleep(20 * time.Second)
			start := time.Now()
			require.NoError(t, holder.Unlock(held))
			require.LessOrEqual(t, (<-acquired).Sub(start), most)
			<-acquired
		}, b.opts...)
		bubble(t, b.name+"/across a dark phase", func(t *testing.T, s *relukkotest.Server) {
			if b.setUp != nil {
				b.setUp(s)
			}
			holder := relukko.NewMutex(s.NewLink().Client(), "arm")
			held := lock(t, holder)
			acquired := lockAsync(t, relukko.NewMutex(s.Client(), "arm"))
			time.Sleep(5 * time.Second)
			s.GoDark() // for the waiter only
			time.Sleep(5 * time.Second)
			require.NoError(t, holder.Unlock(held))
			time.Sleep(5 * time.Second)
			start := time.Now()
			s.ComeBack()
			require.LessOrEqual(t, (<-acquired).Sub(start), 35*time.Second,
				"a connection that stays dark is abandoned")
			<-acquired
		}, b.opts...)
	}
}

func TestNoMissedWakeUpWhenTheHandshakeHangs(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		s.Hold(relukkotest.On("GET", "/ws/"))
		holder := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, holder)
		var asked []time.Time // by the only waiter
		s.Latency(func(r *http.Request) (before, after time.Duration) {
			if create(r) {
				asked = append(asked, time.Now())
			}
			return 0, 0
		})
		for range 20 { // the pauses are random
			asked = append(asked[:0], time.Now())
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			_, err := relukko.NewMutex(s.Client(), "arm").Lock(ctx)
			cancel()
			require.ErrorIs(t, err, relukko.ErrLocked)
			for i := range asked[1:] {
				require.LessOrEqual(t, asked[i+1].Sub(asked[i]), 5*time.Second)
			}
			require.Greater(t, len(asked), 7)
		}
		s.Heal()
		require.NoError(t, holder.Unlock(held))
	})
}

func TestManyWaitersEnterOneByOne(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		var in occupants
		var wg sync.WaitGroup
		start := time.Now()
		for range 20 {
			m := relukko.NewMutex(s.Client(), "arm")
			wg.Go(func() {
				err := m.Do(t.Context(), func(context.Context) error {
					in.enter()
					defer in.leave()
					time.Sleep(time.Second)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, in.most.Load())
		if !b.polls {
			require.Less(t, time.Since(start), 21*time.Second)
		}
		require.Empty(t, s.Locks())
	})
}

func TestReleasesOfOtherNamesCostFewRequests(t *testing.T) {
	bubble(t, "the event names the lock", func(t *testing.T, s *relukkotest.Server) {
		like(httpapi.Original{Deleted: func(l wire.Lock) any { return l.ID }})(s)
		testOthersReleases(t, s, 2) // the polls of 20 s
	})
	bubble(t, "the event names no lock", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		testOthersReleases(t, s, 5*20)
	})
}

// testOthersReleases releases another name 1,000 times within 20 s, and requires that one waiter
// sends at most this many creates.
func testOthersReleases(t *testing.T, s *relukkotest.Server, most int) {
	holder := relukko.NewMutex(s.Client(), "arm")
	held := lock(t, holder)
	acquired := lockAsync(t, relukko.NewMutex(s.Client(), "arm"))
	time.Sleep(time.Second)
	before := s.Requests("POST", "")
	other := relukko.NewMutex(s.Client(), "leg")
	for range 1000 {
		require.NoError(t, other.Unlock(lock(t, other)))
		time.Sleep(20 * time.Millisecond)
	}
	require.LessOrEqual(t, s.Requests("POST", "")-before-1000, most)
	start := time.Now()
	require.NoError(t, holder.Unlock(held))
	require.LessOrEqual(t, (<-acquired).Sub(start), 300*time.Millisecond)
	<-acquired
}

func TestLockIsFoundAfterALostReply(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		for _, acquire := range []func(*relukko.Mutex, context.Context) (context.Context, error){
			(*relukko.Mutex).Lock, (*relukko.Mutex).TryLock,
		} {
			m := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(2*time.Second))
			s.CutNext(1, create)
			start := time.Now()
			held, err := acquire(m, t.Context())
			require.NoError(t, err)
			require.Less(t, time.Since(start), time.Second)
			require.False(t, session(t, held).LeaseEnd().After(start.Add(10*time.Minute)),
				"the lease counts from before the lost create")
			require.Len(t, s.Locks(), 1)
			time.Sleep(10 * time.Second)
			require.NoError(t, held.Err())
			require.NoError(t, m.Unlock(held))
			time.Sleep(10 * time.Second)
			require.Empty(t, s.Locks())
		}
	})
}

func TestLockIsFoundAfterALostReplyWhenAListHangs(t *testing.T) {
	bubble(t, "the first one", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		m := relukko.NewMutex(s.Client(), "arm")
		s.CutNext(1, create)
		var lists atomic.Int32
		s.HoldReplies(func(r *http.Request) bool {
			return r.Method == "GET" && r.URL.Path == "/v1/locks/" && lists.Add(1) == 1
		})
		start := time.Now()
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		require.Less(t, time.Since(start), 15*time.Second)
		require.EqualValues(t, 2, lists.Load())
		require.NoError(t, m.Unlock(held))
		s.Heal()
	})
	bubble(t, "every one", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		c := s.Client()
		s.CutNext(1, create)
		s.HoldReplies(relukkotest.On("GET", "/v1/locks/{$}"))
		start := time.Now()
		_, err := relukko.NewMutex(c, "arm").Lock(t.Context())
		require.ErrorContains(t, err, "no list of the locks within 10s")
		require.NotErrorIs(t, err, context.DeadlineExceeded, "the caller set no deadline")
		require.LessOrEqual(t, time.Since(start), 75*time.Second)
		s.Heal()
		require.NoError(t, c.Shutdown(t.Context()))
		require.Empty(t, s.Locks())
	})
}

func TestNothingHangsInSilence(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault func(*relukkotest.Server)
		most  time.Duration // that Lock takes
		least time.Duration
		want  string
	}{
		{"400", func(s *relukkotest.Server) { s.FailNext(-1, 400) }, 0, 0, "400"},
		{"401", func(s *relukkotest.Server) { s.FailNext(-1, 401) }, 0, 0, "401"},
		{"403", func(s *relukkotest.Server) { s.FailNext(-1, 403) }, 0, 0, "403"},
		{"404", func(s *relukkotest.Server) { s.FailNext(-1, 404) }, 0, 0, "404"},
		{"418", func(s *relukkotest.Server) { s.FailNext(-1, 418) }, 0, 0, "418"},
		{"a redirect", func(s *relukkotest.Server) {
			s.FailNext(-1, 302, "Location", "https://elsewhere.example/")
		}, 0, 0, "elsewhere.example"},
		{"HTML with 200", func(s *relukkotest.Server) {
			s.AnswerNext(-1, nil, relukkotest.Answer{Status: 200, Body: "<html>Welcome"})
		}, 0, 0, "not a lock"},
		{"an empty 201", func(s *relukkotest.Server) {
			s.AnswerNext(-1, nil, relukkotest.Answer{Status: 201, Body: " "})
		}, 0, 0, "not a lock"},
		{"503", func(s *relukkotest.Server) {
			s.FailNext(-1, 503)
		}, 60 * time.Second, 55 * time.Second, "503"},
		{"503, Retry-After an hour", func(s *relukkotest.Server) {
			s.FailNext(-1, 503, "Retry-After", "3600")
		}, time.Second, 0, "503"},
		{"503, Retry-After 292 years", func(s *relukkotest.Server) {
			s.FailNext(-1, 503, "Retry-After", "9223372036854775807")
		}, time.Second, 0, "503"},
		{"stopped", (*relukkotest.Server).Stop, 61 * time.Second, 55 * time.Second, "http://relukko"},
		{"dark", (*relukkotest.Server).GoDark, 66 * time.Second, 50 * time.Second, "http://relukko"},
	} {
		plainly(t, row.name, func(t *testing.T, s *relukkotest.Server) {
			m := relukko.NewMutex(s.Client(), "arm")
			row.fault(s)
			for _, acquire := range []func(context.Context) (context.Context, error){
				m.Lock, m.TryLock,
			} {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(10*time.Minute, cancel) // a deadline would give it other limits
				start := time.Now()
				_, err := acquire(ctx)
				require.ErrorContains(t, err, row.want)
				require.ErrorContains(t, err, `lock "arm"`)
				require.ErrorContains(t, err, s.URL)
				requireNoKey(t, s, fmt.Sprintf("%v %+v %#v", err, err, err))
				require.LessOrEqual(t, time.Since(start), row.most+time.Millisecond)
				require.GreaterOrEqual(t, time.Since(start), row.least)
			}
		})
	}
}

func TestNothingHangsInSilenceAfterALongWait(t *testing.T) {
	bubble(t, "a minute after the last answer", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		holder := relukko.NewMutex(s.Client(), "arm")
		held := lock(t, holder)
		m := relukko.NewMutex(s.Client(), "arm")
		go func() {
			time.Sleep(10 * time.Minute)
			s.FailNext(-1, 500)
		}()
		start := time.Now()
		_, err := m.Lock(t.Context())
		require.ErrorContains(t, err, "500")
		require.InDelta(t, 11*time.Minute, time.Since(start), float64(40*time.Second))
		s.Heal()
		holder.Unlock(held) // perhaps lost in that minute
	})
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		holder := relukko.NewMutex(s.Client(), "arm", relukko.WithCreator("bench-7"))
		held := lock(t, holder)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := relukko.NewMutex(s.Client(), "arm").Lock(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.ErrorContains(t, err, "held by bench-7")
		require.NoError(t, holder.Unlock(held))
	})
}

func TestWithBackOff(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		s.FailNext(-1, 500)
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithBackOff(func() backoff.BackOff {
			return backoff.WithMaxRetries(backoff.NewConstantBackOff(time.Second), 3)
		}))
		start := time.Now()
		_, err := m.Lock(t.Context())
		require.ErrorContains(t, err, "500")
		require.InDelta(t, 3*time.Second, time.Since(start), float64(time.Millisecond))
		require.Equal(t, 4, s.Requests("POST", ""))

		m = relukko.NewMutex(s.Client(), "arm", pausing(time.Minute))
		go func() {
			time.Sleep(100 * time.Minute)
			s.Heal()
		}()
		require.NoError(t, m.Unlock(lock(t, m)))
	})
}

func TestWithOnWaitReportsTheHolder(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		var mu sync.Mutex
		var calls []string
		onWait := relukko.WithOnWait(func(w relukko.Waiting) {
			holder := w.Holder
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, holder.Creator[:7])
		})
		first := relukko.NewMutex(s.Client(), "arm", relukko.WithCreator("bench-1"))
		second := relukko.NewMutex(s.Client(), "arm", relukko.WithCreator("bench-2"))
		third := relukko.NewMutex(s.Client(), "arm", onWait)
		held := lock(t, first)
		var wg sync.WaitGroup
		wg.Go(func() {
			second.Do(t.Context(), func(context.Context) error {
				time.Sleep(time.Minute)
				return nil
			})
		})
		synctest.Wait()
		acquired := lockAsync(t, third)
		time.Sleep(249 * time.Millisecond)
		mu.Lock()
		require.Empty(t, calls)
		mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		mu.Lock()
		require.Equal(t, []string{"bench-1"}, calls)
		mu.Unlock()
		start := time.Now()
		require.NoError(t, first.Unlock(held))
		at := <-acquired
		<-acquired
		wg.Wait()
		if at.Sub(start) > 50*time.Second { // the second one was first
			require.Equal(t, []string{"bench-1", "bench-2"}, calls)
		} else {
			require.Equal(t, []string{"bench-1"}, calls)
		}
	})
}

func TestWithOnWaitInTheSameProcess(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		calls := make(chan string, 10)
		m := relukko.NewMutex(s.Client(), "arm", relukko.WithCreator("bench-1"),
			relukko.WithOnWait(func(w relukko.Waiting) { calls <- w.Holder.ID }))
		held := lock(t, m)
		acquired := lockAsync(t, m)
		time.Sleep(time.Second)
		require.Equal(t, session(t, held).Info().ID, <-calls)
		require.NoError(t, m.Unlock(held))
		<-acquired
		<-acquired
		require.Empty(t, calls)
	})
}

func TestWithOnWaitWhenTheHolderIsUnknown(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		calls := make(chan *api.Lock, 10)
		s.FailNext(-1, 503)
		m := relukko.NewMutex(s.Client(), "arm",
			relukko.WithOnWait(func(w relukko.Waiting) { calls <- w.Holder }))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := m.Lock(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, calls, 1)
		require.Nil(t, <-calls)
	})
}

func TestTheKeyStaysSecret(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c := s.Client(api.WithLogger(logger))
		m := relukko.NewMutex(c, "arm", relukko.WithLogger(logger), relukko.WithTTL(3*time.Second))
		held := lock(t, m)
		requireNoKey(t, s, fmt.Sprintf("%v %+v %#v %+v %#v", c, c, c, m, m))
		requireNoKey(t, s, fmt.Sprintf("%+v %#v", session(t, held), held))
		for _, status := range []int{302, 403, 500, 404} {
			s.FailNext(3, status, "Location", s.URL+"/elsewhere", "X-Api-Key", s.APIKey)
			leg := relukko.NewMutex(c, "leg", relukko.WithLogger(logger),
				relukko.WithBackOff(func() backoff.BackOff { return new(backoff.StopBackOff) }))
			_, err := leg.Lock(t.Context())
			requireNoKey(t, s, fmt.Sprintf("%v %+v %#v", err, err, err))
			s.Heal()
		}
		time.Sleep(time.Minute)
		s.GoDark()
		<-held.Done()
		requireNoKey(t, s, fmt.Sprintf("%+v", m.Unlock(held)))
		s.Heal()
		synctest.Wait() // until nothing is logged any more
		requireNoKey(t, s, log.String())
		require.NotEmpty(t, log.String())
		require.Zero(t, s.Requests("", "/elsewhere"), "the redirect was not followed")
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMutex(s.Client(), "arm")
		s.FailNext(1, http.StatusTooManyRequests, "Retry-After", "20")
		start := time.Now()
		held := lock(t, m)
		require.Equal(t, 20*time.Second, time.Since(start).Round(100*time.Millisecond))
		require.NoError(t, m.Unlock(held))
	})
}

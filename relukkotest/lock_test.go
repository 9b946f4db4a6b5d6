package relukkotest_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// fakeT is a test that can fail and be skipped without harm.
type fakeT struct {
	testing.TB // for the rest
	deadline   time.Time

	mu       sync.Mutex
	outcome  string // "", "failed" or "skipped"
	messages []string
	cleanups []func()
}

// fakeTest runs f as a test, to its end. The test binary's own deadline is so
// far away; 0: there is none.
func fakeTest(t testing.TB, deadline time.Duration, f func(t *fakeT)) *fakeT {
	fake := &fakeT{TB: t}
	if deadline != 0 {
		fake.deadline = time.Now().Add(deadline)
	}
	fake.do(func() { f(fake) })
	for len(fake.cleanups) > 0 {
		last := len(fake.cleanups) - 1
		cleanup := fake.cleanups[last]
		fake.cleanups = fake.cleanups[:last]
		fake.do(cleanup)
	}
	return fake
}

// do calls f, which may end its goroutine.
func (t *fakeT) do(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	<-ended
}

func (t *fakeT) Helper()                     {}
func (t *fakeT) Cleanup(f func())            { t.cleanups = append(t.cleanups, f) }
func (t *fakeT) Deadline() (time.Time, bool) { return t.deadline, !t.deadline.IsZero() }

func (t *fakeT) Logf(format string, args ...any)   { t.note("", format, args...) }
func (t *fakeT) Errorf(format string, args ...any) { t.note("failed", format, args...) }

func (t *fakeT) Fatalf(format string, args ...any) {
	t.note("failed", format, args...)
	runtime.Goexit()
}

func (t *fakeT) FailNow() { t.Fatalf("failed") }

func (t *fakeT) Skipf(format string, args ...any) {
	t.note("skipped", format, args...)
	runtime.Goexit()
}

func (t *fakeT) note(outcome, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if outcome != "" {
		t.outcome = outcome
	}
	t.messages = append(t.messages, fmt.Sprintf(format, args...))
}

func (t *fakeT) log() string { return strings.Join(t.messages, "\n") }

// inABubble runs f with a server in a testing/synctest bubble.
func inABubble(t *testing.T, f func(t *testing.T, s *relukkotest.Server)) {
	bubble.Test(t, func(t *testing.T) { f(t, relukkotest.NewServer(t, relukkotest.InMemory())) })
}

func TestLockMakesATestExclusive(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		test := fakeTest(t, 0, func(t *fakeT) {
			ctx := relukkotest.Lock(t, c, relukkotest.Name("arm"))
			session, ok := relukko.FromContext(ctx)
			require.True(t, ok)
			require.Equal(t, "arm", session.Info().Name)
			require.NoError(t, ctx.Err())
			require.Equal(t, []string{"arm"}, names(s.Locks()))
			t.Cleanup(func() {
				require.NoError(
					t, session.Err(), "the lock outlives what was registered later")
			})
		})
		require.Empty(t, test.outcome, test.log())
		require.Empty(t, s.Locks())
	})
}

func TestLockAny(t *testing.T) {
	inABubble(t, func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		use := func(t *fakeT, want string) {
			ctx := relukkotest.LockAny(t, c, "bench-1", "bench-2")
			session, _ := relukko.FromContext(ctx)
			require.Equal(t, want, session.Name())
		}
		test := fakeTest(t, 0, func(t *fakeT) {
			use(t, "bench-1")
			use(t, "bench-2")
			next := make(chan *fakeT)
			go func() {
				next <- fakeTest(t, time.Minute, func(t *fakeT) { use(t, "bench-2") })
			}()
			last := <-next
			require.Equal(t, "skipped", last.outcome, last.log())
			require.Contains(t, last.log(), `waiting for any of ["bench-1" "bench-2"], held by`)
		})
		require.Empty(t, test.outcome, test.log())
		require.Empty(t, s.Locks())

		test = fakeTest(t, 0, func(t *fakeT) { relukkotest.LockAny(t, c) })
		require.Equal(t, "failed", test.outcome)
		require.Contains(t, test.log(), "a pool has 1 to 100 names, not 0")
	})
}

func TestLockIsNamedAfterPackageAndTest(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		relukkotest.Lock(t, s.Client())
		require.Equal(t, []string{"gitlab.com/relukko/relukko-go/relukkotest." + t.Name()},
			names(s.Locks()))
	})
}

func TestLockSkipsWhileSomebodyElseKeepsTheLock(t *testing.T) {
	const never = 0
	for name, row := range map[string]struct {
		deadline time.Duration // of the test binary
		opts     []relukkotest.LockOption
		waits    time.Duration
	}{
		"after 10 min": {never, nil, 10 * time.Minute},
		"after a given time": {never,
			[]relukkotest.LockOption{relukkotest.Wait(time.Hour)}, time.Hour},
		"30 s before the deadline": {2 * time.Minute, nil, 90 * time.Second},
		"when the deadline is far": {time.Hour,
			[]relukkotest.LockOption{relukkotest.Wait(time.Minute)}, time.Minute},
		"at once when asked to":       {never, []relukkotest.LockOption{relukkotest.Wait(0)}, 0},
		"at once near the deadline":   {20 * time.Second, nil, 0},
		"at once behind the deadline": {-time.Second, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inABubble(t, func(t *testing.T, s *relukkotest.Server) {
				holder := relukko.NewMutex(
					s.Client(), "arm", relukko.WithCreator("the night shift"))
				held, err := holder.Lock(t.Context())
				require.NoError(t, err)
				c := s.Client()

				began := time.Now()
				test := fakeTest(t, row.deadline, func(t *fakeT) {
					relukkotest.Lock(t, c, append(row.opts, relukkotest.Name("arm"))...)
					t.Errorf("went on")
				})
				require.Equal(t, "skipped", test.outcome, test.log())
				require.Contains(t, test.log(), "held by the night shift")
				require.Equal(t, row.waits, time.Since(began))
				require.NoError(t, holder.Unlock(held))
			})
		})
	}
}

func TestLockWaitsForItsTurn(t *testing.T) {
	inABubble(t, func(t *testing.T, s *relukkotest.Server) {
		holder := relukko.NewMutex(s.Client(), "arm", relukko.WithCreator("the night shift"))
		held, err := holder.Lock(t.Context())
		require.NoError(t, err)
		time.AfterFunc(5*time.Minute, func() { holder.Unlock(held) })
		c := s.Client()
		test := fakeTest(t, 0, func(t *fakeT) {
			ctx := relukkotest.Lock(t, c, relukkotest.Name("arm"))
			time.Sleep(time.Hour) // the limit is for the waiting only
			require.NoError(t, ctx.Err())
		})
		require.Empty(t, test.outcome, test.log())
		require.Contains(t, test.log(), `waiting for lock "arm", held by the night shift`)
	})
}

func TestLockFailsWhereThereIsNothingToWaitFor(t *testing.T) {
	for name, row := range map[string]struct {
		fault func(*relukkotest.Server)
		says  string
		opts  []relukkotest.Option
	}{
		"refused": {fault: func(s *relukkotest.Server) {
			s.AnswerNext(-1, relukkotest.On("GET", "/v1/stream"),
				relukkotest.Answer{Status: 403})
		}, says: "403"},
		"refused, plain requests": {fault: func(s *relukkotest.Server) { s.FailNext(-1, 403) },
			says: "403", opts: []relukkotest.Option{relukkotest.WithoutStream()}},
		"unreachable": {fault: (*relukkotest.Server).Stop, says: "connection refused"},
		"dark":        {fault: (*relukkotest.Server).GoDark, says: "relukko"},
	} {
		for _, wait := range []time.Duration{0, 10 * time.Second, 10 * time.Minute} {
			t.Run(fmt.Sprintf("%s, %v", name, wait), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					s := relukkotest.NewServer(t, append(row.opts, relukkotest.InMemory())...)
					c := s.Client()
					row.fault(s)
					began := time.Now()
					test := fakeTest(t, 0, func(t *fakeT) {
						relukkotest.Lock(t, c, relukkotest.Name("arm"), relukkotest.Wait(wait))
						t.Skipf("went on")
					})
					require.Equal(t, "failed", test.outcome, test.log())
					require.Contains(t, test.log(), row.says)
					require.LessOrEqual(t, time.Since(began), 2*time.Minute)
				})
			})
		}
	}
}

func TestALostLockFailsTheTest(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		test := fakeTest(t, 0, func(t *fakeT) {
			ctx := relukkotest.Lock(t, c, relukkotest.Name("arm"))
			s.Delete("arm")
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), relukko.ErrLockLost)
		})
		require.Equal(t, "failed", test.outcome)
		require.Len(t, test.messages, 1, "once")
		require.Contains(t, test.log(), "somebody deleted it")
	})
}

func TestALossThatOnlyUnlockFindsFailsTheTest(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		test := fakeTest(t, 0, func(t *fakeT) {
			relukkotest.Lock(t, c, relukkotest.Name("arm"))
			s.Delete("arm")
		})
		require.Equal(t, "failed", test.outcome)
		require.Len(t, test.messages, 1, "once")
		require.Contains(t, test.log(), "lost")
	})
}

func TestAReleaseThatFailsFailsTheTest(t *testing.T) {
	inABubble(t, func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		test := fakeTest(t, 0, func(t *fakeT) {
			relukkotest.Lock(t, c, relukkotest.Name("arm"))
			s.GoDark()
		})
		s.ComeBack()
		require.Equal(t, "failed", test.outcome)
		require.Contains(t, test.log(), "release")
	})
}

func TestMutexOptions(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		relukkotest.Lock(t, s.Client(),
			relukkotest.MutexOptions(relukko.WithCreator("the day shift")))
		require.Contains(t, *s.Locks()[0].Creator, "the day shift")
	})
}

func TestLockNames(t *testing.T) {
	for _, row := range []struct{ function, test, want string }{
		{"gitlab.com/lab/bench/arm.TestMove", "TestMove", "gitlab.com/lab/bench/arm.TestMove"},
		{"gitlab.com/lab/bench/arm_test.TestMove.func1", "TestMove/far",
			"gitlab.com/lab/bench/arm.TestMove/far"},
		{"gitlab.com/lab/bench/arm.(*suite).TestMove", "TestSuite/TestMove",
			"gitlab.com/lab/bench/arm.TestSuite/TestMove"},
		{"gopkg.in/arm%2ev2.TestMove", "TestMove", "gopkg.in/arm.v2.TestMove"},
		{"arm.TestMove[...]", "TestMove", "arm.TestMove"},
	} {
		require.Equal(t, row.want, relukkotest.TestLockName(row.function, row.test))
	}

	long := strings.Repeat("ä", 200)
	one := relukkotest.TestLockName("lab/arm.TestMove", long+"1")
	two := relukkotest.TestLockName("lab/arm.TestMove", long+"2")
	for _, name := range []string{one, two} {
		require.LessOrEqual(t, len(name), 255)
		require.True(t, utf8.ValidString(name))
		require.True(t, strings.HasPrefix(name, "lab/arm.ää"))
	}
	require.NotEqual(t, one, two)
}

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errClosed = errors.New("closed")

// job is a Job that ends by itself when it is abandoned.
type job struct {
	name      string
	g         *Group
	abandoned atomic.Int64
}

func (j *job) Describe() string { return j.name }
func (j *job) Abandon()         { j.abandoned.Add(1); go j.g.End(j) }

// closing begins to close a group, for as long as patience.
func closing(g *Group, patience time.Duration) (abandoned chan []string) {
	abandoned = make(chan []string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		abandoned <- g.Close(ctx)
	}()
	synctest.Wait()
	return abandoned
}

// inBubble runs f in a bubble with a group, and closes that in the end.
func inBubble(t *testing.T, f func(t *testing.T, g *Group)) {
	bubble.Test(t, func(t *testing.T) {
		g := NewGroup(errClosed)
		f(t, g)
		require.Empty(t, g.Close(context.Background()))
	})
}

func TestWhatIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		do                          func(g *Group)
		begin, cont, call, shutDown error // what they return then
	}{
		"open": {do: func(*Group) {}},
		"closing, with a task": {
			do: func(g *Group) {
				g.Begin(&job{g: g})
				closing(g, time.Minute)
			},
			begin: errClosed,
		},
		"closing, with a call": {
			do: func(g *Group) {
				g.Call(&job{g: g})
				closing(g, time.Minute)
			},
			begin: errClosed, cont: errClosed, call: errClosed, shutDown: errClosed,
		},
		"closed": {
			do:    func(g *Group) { g.Close(context.Background()) },
			begin: errClosed, cont: errClosed, call: errClosed, shutDown: errClosed,
		},
		"abandoned": {
			do: func(g *Group) {
				stubborn := &stubborn{}
				g.Begin(stubborn)
				closing(g, 0)
				time.AfterFunc(time.Second, func() { g.End(stubborn) })
			},
			begin: errClosed, cont: errClosed, call: errClosed, shutDown: errClosed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				g := NewGroup(errClosed)
				tt.do(g)
				require.Equal(t, tt.shutDown, g.Refusal())
				a, b, c := &job{g: g}, &job{g: g}, &job{g: g}
				require.Equal(t, tt.begin, g.Begin(a))
				require.Equal(t, tt.call, g.Call(b))
				require.Equal(t, tt.cont, g.Continue(c))
				for _, j := range []*job{a, b, c} {
					g.End(j)
				}
				closing(g, 0)
				time.Sleep(time.Minute)
			})
		})
	}
}

// stubborn does not end when it is abandoned.
type stubborn struct{ job }

func (s *stubborn) Abandon() { s.abandoned.Add(1) }

func TestCloseWaitsForTasksAndCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, g *Group) {
		task, call, next := &job{g: g}, &job{g: g}, &job{g: g}
		require.NoError(t, g.Begin(task))
		require.NoError(t, g.Call(call))
		done := closing(g, time.Minute)
		require.NoError(t, g.Continue(next), "a task that continues another one")
		g.End(task)
		synctest.Wait()
		require.Empty(t, done)
		require.NoError(t, g.Call(task), "while there are tasks")
		g.End(task)
		g.End(next)
		g.End(next) // further calls do nothing
		synctest.Wait()
		require.Empty(t, done, "the call goes on")
		require.Equal(t, errClosed, g.Call(task), "no tasks are left")
		g.End(call)
		require.Empty(t, <-done)
		require.Zero(t, task.abandoned.Load()+call.abandoned.Load()+next.abandoned.Load())
	})
}

func TestCloseAbandonsWhatIsLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, g *Group) {
		var jobs []*job
		for _, name := range []string{"b", "a", "c"} {
			task, call := &job{name: "task " + name, g: g}, &job{name: "call " + name, g: g}
			require.NoError(t, g.Begin(task))
			require.NoError(t, g.Call(call))
			jobs = append(jobs, task, call)
		}
		ctx := g.Context(t.Context())
		done := closing(g, time.Second)
		g.End(jobs[4]) // task c
		time.Sleep(time.Second - 1)
		synctest.Wait()
		require.Empty(t, done)
		require.NoError(t, ctx.Err())
		require.Equal(t, []string{"task a", "task b", "call a", "call b", "call c"}, <-done)
		require.Equal(t, errClosed, context.Cause(ctx))
		for i, j := range jobs {
			require.Equal(t, i != 4, j.abandoned.Load() == 1, j.name)
		}
	})
}

func TestCloseWaitsForWhatItHasAbandoned(t *testing.T) {
	inBubble(t, func(t *testing.T, g *Group) {
		task := &stubborn{job{name: "slow", g: g}}
		require.NoError(t, g.Begin(task))
		ctx := g.Context(t.Context())
		done := closing(g, 0)
		require.EqualValues(t, 1, task.abandoned.Load())
		require.Empty(t, done)
		require.Error(t, ctx.Err(), "its requests have ended")
		require.Equal(t, errClosed, g.Continue(&job{g: g}))
		g.End(task)
		require.Equal(t, []string{"slow"}, <-done)
	})
}

func TestOpenEndsWhenCloseBegins(t *testing.T) {
	inBubble(t, func(t *testing.T, g *Group) {
		task := &job{g: g}
		require.NoError(t, g.Begin(task))
		parent, cancelParent := context.WithCancel(t.Context())
		open, end := g.WhileOpen(parent)
		defer end(nil)
		stopped, end := g.WhileOpen(parent)
		end(nil)
		require.Equal(t, context.Canceled, context.Cause(stopped))
		other, end := g.WhileOpen(parent)
		defer end(nil)
		require.NoError(t, open.Err())
		require.NoError(t, g.Open().Err())
		requests := g.Context(parent)

		closing(g, time.Minute)
		require.Equal(t, errClosed, context.Cause(open))
		require.Equal(t, errClosed, context.Cause(g.Open()))
		require.NoError(t, parent.Err())
		cancelParent()
		require.Equal(t, errClosed, context.Cause(other), "which came first")
		late, end := g.WhileOpen(t.Context())
		defer end(nil)
		synctest.Wait()
		require.Equal(t, errClosed, context.Cause(late))
		require.NoError(t, requests.Err(), "the task may go on with its requests")
		g.End(task)
	})
}

func TestWhileOpenEndsWithItsParent(t *testing.T) {
	inBubble(t, func(t *testing.T, g *Group) {
		cause := errors.New("cause")
		parent, cancel := context.WithCancelCause(t.Context())
		open, end := g.WhileOpen(parent)
		defer end(nil)
		cancel(cause)
		require.Equal(t, cause, context.Cause(open))
	})
}

func TestContextForRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, g *Group) {
		type key struct{}
		values, cancel := context.WithTimeout(
			context.WithValue(t.Context(), key{}, 42), time.Second)
		defer cancel()
		ctx := g.Context(values)
		require.Equal(t, 42, ctx.Value(key{}))
		require.Nil(t, ctx.Value("other"))
		_, limited := ctx.Deadline()
		require.False(t, limited)
		time.Sleep(2 * time.Second)
		require.Error(t, values.Err())
		require.NoError(t, ctx.Err())

		child, cancel := context.WithCancel(ctx)
		defer cancel()
		require.NoError(t, child.Err(), "package context does not take it for a child of values")
		g.Close(context.Background())
		synctest.Wait()
		require.Equal(t, errClosed, context.Cause(child))
	})
}

func TestSharedIsMadeOnce(t *testing.T) {
	g := NewGroup(errClosed)
	made := 0
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			g.Shared(func() any { made++; return &made })
		})
	}
	wg.Wait()
	require.Equal(t, 1, made)
	require.Same(t, &made, g.Shared(func() any { return nil }))
	g.Close(context.Background())
}

func TestCloseWhileJobsComeAndGo(t *testing.T) {
	for range 50 {
		g := NewGroup(errClosed)
		var wg sync.WaitGroup
		var under, afterClose atomic.Int64
		for i := range 8 {
			wg.Go(func() {
				for {
					task := &job{name: fmt.Sprint(i), g: g}
					if g.Begin(task) != nil {
						return
					}
					under.Add(1)
					call, next := &job{g: g}, &job{g: g}
					if g.Call(call) != nil || g.Continue(next) != nil {
						afterClose.Add(1) // a task is under way, so neither may be refused
					}
					g.End(task)
					g.End(call)
					under.Add(-1)
					g.End(next)
				}
			})
		}
		require.Empty(t, g.Close(context.Background()))
		require.Zero(t, under.Load())
		wg.Wait()
		require.Zero(t, afterClose.Load())
	}
}

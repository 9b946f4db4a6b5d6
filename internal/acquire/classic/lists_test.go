package classic

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// lists is a backend for a lister: it counts Lists, and answers after took.
type lists struct {
	took  time.Duration
	sent  []time.Time
	locks []api.Lock
	err   error
}

func (l *lists) list(ctx context.Context, _ ...api.CallOption) ([]api.Lock, error) {
	l.sent = append(l.sent, time.Now())
	if !acquire.Sleep(ctx, l.took) {
		return nil, ctx.Err()
	}
	return l.locks, l.err
}

// inBubble runs f with a lister whose context ends with cancel.
func inBubble(t *testing.T, f func(t *testing.T, l *lister, b *lists, cancel context.CancelFunc)) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := &lists{took: 10 * ms}
		f(t, &lister{list: b.list, ctx: ctx}, b, cancel)
		synctest.Wait()
	})
}

func TestOneListServesAllThatAskedBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lister, b *lists, _ context.CancelFunc) {
		began := time.Now()
		answered := make(chan time.Duration, 100)
		ask := func(n int) {
			for range n {
				go func() {
					_, err := l.wait(t.Context())
					require.NoError(t, err)
					answered <- time.Since(began)
				}()
			}
			synctest.Wait()
		}
		ask(1)
		pass(ms)
		ask(20) // the first List is under way: it may not have seen what they ask for
		pass(5 * ms)
		ask(20)
		for i := range 41 {
			want := 10 * ms
			if i > 0 {
				want += listPause + b.took
			}
			require.Equal(t, want, <-answered)
		}
		pass(time.Hour)
		require.Len(t, b.sent, 2, "and none that nobody asks for")
		require.False(t, l.busy)
	})
}

func TestQuestionIsAskedWhenItsListIsSent(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lister, b *lists, _ context.CancelFunc) {
		began := time.Now()
		var asked, answered time.Duration
		l.next(func() func(*listing, error) { return func(*listing, error) {} })
		pass(ms)
		l.next(func() func(*listing, error) {
			asked = time.Since(began)
			return func(*listing, error) { answered = time.Since(began) }
		})
		pass(time.Second)
		require.Equal(t, 60*ms, asked)
		require.Equal(t, 70*ms, answered)
		require.Equal(t, began.Add(asked), b.sent[1])
	})
}

// A List that nobody needs any more is ended, or not sent.
func TestForgottenLists(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lister, b *lists, _ context.CancelFunc) {
		b.took = 5 * time.Second
		began := time.Now()
		wait := func(d time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			_, err := l.wait(ctx)
			return err
		}
		go wait(time.Second)
		require.Error(t, wait(2*time.Second))
		synctest.Wait()
		require.Error(t, wait(ms)) // during the pause
		require.NoError(t, wait(time.Minute))
		require.Equal(t, 2*time.Second+listPause+b.took, time.Since(began))
		pass(time.Hour)
		require.Len(t, b.sent, 2)
	})
}

func TestPauseBetweenLists(t *testing.T) {
	for _, tt := range []struct {
		took, pause time.Duration
		err         error
	}{
		{took: 0, pause: 50 * ms},
		{took: 50 * ms, pause: 50 * ms},
		{took: 3 * time.Second, pause: 3 * time.Second},
		{took: 3 * time.Second, pause: 50 * ms, err: errTest},
	} {
		inBubble(t, func(t *testing.T, l *lister, b *lists, _ context.CancelFunc) {
			b.took, b.err = tt.took, tt.err
			for range 3 {
				_, err := l.wait(t.Context())
				require.Equal(t, tt.err, err)
			}
			require.Equal(t, tt.took+tt.pause, b.sent[1].Sub(b.sent[0]), "%+v", tt)
			require.Equal(t, tt.took+tt.pause, b.sent[2].Sub(b.sent[1]), "%+v", tt)
		})
	}
}

func TestListThatIsNotAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lister, b *lists, _ context.CancelFunc) {
		b.took = time.Hour
		began := time.Now()
		_, err := l.wait(t.Context())
		require.EqualError(t, err, "no list of the locks within 10s")
		require.False(t, errors.Is(err, context.DeadlineExceeded), "that would be the caller's")
		require.Equal(t, listTimeout, time.Since(began))
	})
}

func TestCallerOfAListGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lister, b *lists, _ context.CancelFunc) {
		b.took = time.Second
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(ms, func() { cancel(errTest) })
		began := time.Now()
		_, err := l.wait(ctx)
		require.Equal(t, errTest, err)
		require.Equal(t, ms, time.Since(began))
		_, err = l.wait(t.Context())
		require.NoError(t, err, "the List goes on for others")
	})
}

func TestListsEndWithTheClient(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lister, b *lists, cancel context.CancelFunc) {
		b.took = time.Hour
		time.AfterFunc(ms, cancel)
		began := time.Now()
		_, err := l.wait(context.Background())
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, ms, time.Since(began))
		synctest.Wait()
		require.False(t, l.busy, "nothing of it is left")
	})
}

func TestListing(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lister, b *lists, _ context.CancelFunc) {
		b.locks = []api.Lock{*lockOf(1, "arm", mark), *lockOf(2, "leg", mark2)}
		list, err := l.wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, lockOf(1, "arm", mark), list.holder("arm"))
		require.Equal(t, lockOf(2, "leg", mark2), list.byID[testID(2)])
		require.Nil(t, list.holder("foot"))
		list.holder("arm").ID = "changed"
		require.Equal(t, testID(1), list.holder("arm").ID, "the caller has a copy")
	})
}

func TestSleep(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		require.True(t, acquire.Sleep(ctx, time.Second))
		require.Equal(t, time.Second, time.Since(began))
		require.True(t, acquire.Sleep(ctx, 0))
		require.True(t, acquire.Sleep(ctx, -1))
		time.AfterFunc(time.Second, cancel)
		require.False(t, acquire.Sleep(ctx, time.Hour))
		require.Equal(t, 2*time.Second, time.Since(began))
		require.False(t, acquire.Sleep(ctx, 0), "the context has ended")
	})
}

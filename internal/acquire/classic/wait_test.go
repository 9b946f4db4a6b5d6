package classic

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

func TestPaceOfTheFirstCall(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(w *waiter, cancel context.CancelFunc) // a second after the wait began
		least   time.Duration
		most    time.Duration
		ended   bool // the call's context has ended
		woken   bool
	}{
		"nothing": {func(*waiter, context.CancelFunc) {}, 2 * time.Second, 4 * time.Second,
			false, false},
		"it is released": {func(w *waiter, _ context.CancelFunc) { w.queue.notify(hintReleased) },
			time.Second, time.Second, false, true},
		"perhaps it is": {func(w *waiter, _ context.CancelFunc) { w.queue.notify(hintMaybe) },
			time.Second, time.Second, false, false},
		"others want it": {
			func(w *waiter, _ context.CancelFunc) {
				w.queues.lostRace(testName)
				w.queue.notify(hintReleased)
			},
			time.Second + yieldFor/2, time.Second + yieldFor, false, true},
		"it was not heard of": {
			func(w *waiter, _ context.CancelFunc) { w.queue.notify(hintUnheard) },
			time.Second, time.Second, false, false},
		"the context ends": {func(_ *waiter, cancel context.CancelFunc) { cancel() },
			time.Second, time.Second, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var qs queues
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := queuing(ctx, &qs)
				defer w.holder.stop()
				require.True(t, w.stand())
				w.queue.found(lockOf(1, testName, mark2), 0)
				w.holder.is(lockOf(1, testName, mark2))
				w.poll = 4 * time.Second
				began := time.Now()
				time.AfterFunc(time.Second, func() { tt.happens(w, cancel) })
				require.Equal(t, !tt.ended, w.pace())
				took := time.Since(began)
				require.True(t, tt.least <= took && took <= tt.most, took)
				require.Equal(t, tt.woken, w.woken)
				w.leave(false)
			})
		})
	}
}

func TestNewCallLeavesAWantedNameToOthers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var qs queues
		w := queuing(t.Context(), &qs)
		w.leave(false)
		w.queue = nil
		began := time.Now()
		require.True(t, w.letOthers())
		require.Zero(t, time.Since(began))
		qs.lostRace(testName)
		require.True(t, w.letOthers())
		require.GreaterOrEqual(t, time.Since(began), yieldFor/2)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w.ctx = ctx
		require.False(t, w.letOthers())
	})
}

func TestCallWithAnUnansweredCreateAsksAllTheSame(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var qs queues
		first, second := queuing(t.Context(), &qs), queuing(t.Context(), &qs)
		require.True(t, first.stand())
		second.unknown.Creates, second.poll = 1, 2*time.Second
		began := time.Now()
		require.False(t, second.stand(), "its own lock may be what the others wait for")
		took := time.Since(began)
		require.True(t, 2*time.Second <= took && took <= 4*time.Second, took)
		first.leave(false)
		second.leave(false)
	})
}

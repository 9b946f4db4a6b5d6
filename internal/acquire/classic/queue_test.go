package classic

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// queuing returns a waiter in the queue of its name, without push.
func queuing(ctx context.Context, qs *queues) *waiter {
	events := &events{
		watch:  func(context.Context) (*api.Watch, error) { return nil, api.ErrNoWatch },
		queues: qs,
	}
	w := &waiter{
		parts: &parts{queues: qs, events: events}, r: request(), ctx: ctx,
		queued: queued{mark: mark, progress: isFunc(func(*api.Lock) {})}, heard: time.Now(),
		holder: holder{report: func(*api.Lock, int) {}, asker: askFunc(func() {})},
	}
	w.join()
	return w
}

// hintOf takes the hint that is pending in a queue.
func hintOf(q *queue) hint {
	select {
	case <-q.signal:
	default:
	}
	h, _ := q.take()
	return h
}

func TestFirstComeFirstServed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var qs queues
		served := make(chan int, 10)
		first := queuing(t.Context(), &qs)
		require.True(t, first.stand())
		for i := range 10 {
			go func() {
				w := queuing(t.Context(), &qs)
				if w.stand() {
					served <- i
				}
				w.leave(i%2 == 0)
			}()
			synctest.Wait()
		}
		require.Empty(t, served, "one is the first")
		first.leave(true)
		for i := range 10 {
			require.Equal(t, i, <-served)
		}
		synctest.Wait()
		require.False(t, qs.waiting(testName))
		require.Empty(t, qs.all())
	})
}

func TestOneThatGivesUpLeavesTheQueue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var qs queues
		first := queuing(t.Context(), &qs)
		require.True(t, first.stand())
		ctx, cancel := context.WithCancel(t.Context())
		second, third := queuing(ctx, &qs), queuing(t.Context(), &qs)
		stood := make(chan bool)
		go func() { stood <- second.stand() }()
		synctest.Wait()
		go func() { stood <- third.stand() }()
		synctest.Wait()
		cancel()
		require.False(t, <-stood)
		second.leave(false)
		first.leave(true)
		require.True(t, <-stood)
		third.leave(false)
		require.Empty(t, qs.all())
	})
}

func TestQueueIsLeftWhenTheBackendSaysNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var qs queues
		first, second := queuing(t.Context(), &qs), queuing(t.Context(), &qs)
		second.r.Patience = 10 * time.Second
		require.True(t, first.stand())
		began := time.Now()
		time.AfterFunc(7*time.Second, func() { first.queue.found(lockOf(1, testName, mark2), 0) })
		require.False(t, second.stand())
		require.Equal(t, 17*time.Second, time.Since(began), "10 s from when it said something")
		require.Equal(t, began.Add(7*time.Second), second.heard)
		second.leave(false)
		first.leave(false)
	})
}

func TestNextCallLooksWhereTheFirstStepsBack(t *testing.T) {
	for name, tt := range map[string]struct {
		leave func(*waiter)
		hint  hint
		held  bool // is what the next one knows
	}{
		"it steps back":         {(*waiter).stepBack, hintUnheard, false},
		"it leaves without it":  {func(w *waiter) { w.leave(false) }, hintUnheard, false},
		"it leaves with a lock": {func(w *waiter) { w.leave(true) }, hintNone, true},
	} {
		t.Run(name, func(t *testing.T) {
			var qs queues
			first, second := queuing(t.Context(), &qs), queuing(t.Context(), &qs)
			require.Same(t, first.queue, second.queue)
			require.True(t, first.stand())
			first.queue.found(lockOf(1, testName, mark2), 0)
			tt.leave(first)
			require.True(t, second.stand())
			require.Equal(t, tt.hint, hintOf(second.queue))
			require.Equal(t, tt.held, second.queue.isHeld())
			second.leave(true)
		})
	}
}

func TestOneQueueForEachName(t *testing.T) {
	var qs queues
	var a, b, c queued
	arm, fresh := qs.join("arm", &a)
	require.True(t, fresh)
	again, fresh := qs.join("arm", &b)
	require.False(t, fresh)
	require.Same(t, arm, again)
	leg, fresh := qs.join("leg", &c)
	require.True(t, fresh)
	require.Same(t, leg, qs.named("leg"))
	require.Nil(t, qs.named("foot"))
	require.ElementsMatch(t, []*queue{arm, leg}, qs.all())

	qs.leave(arm, &a)
	require.True(t, qs.waiting("arm"))
	qs.leave(arm, &b)
	require.False(t, qs.waiting("arm"))
	next, fresh := qs.join("arm", &a)
	require.True(t, fresh)
	require.NotSame(t, arm, next)
}

func TestWhatAQueueKnows(t *testing.T) {
	one, two := lockOf(1, testName, mark2), lockOf(2, testName, mark2)
	for name, tt := range map[string]struct {
		do     func(q *queue)
		held   bool
		holder string
		hint   hint
		missed int
	}{
		"nothing": {do: func(*queue) {}},
		"found":   {do: func(q *queue) { q.found(one, q.asking()) }, held: true, holder: one.ID},
		"found, and nobody knows the holder": {
			do:   func(q *queue) { q.found(one, q.asking()); q.found(nil, q.asking()) },
			held: true, holder: one.ID,
		},
		"found, and given up": {do: func(q *queue) { q.found(one, q.asking()); q.unknown() }},
		"found too late: a release was heard of since": {
			do:   func(q *queue) { v := q.asking(); q.notify(hintReleased); q.found(one, v) },
			hint: hintReleased, missed: 1,
		},
		"found too late: perhaps": {
			do:   func(q *queue) { v := q.asking(); q.notify(hintMaybe); q.found(one, v) },
			hint: hintMaybe,
		},
		"push has gone, which says nothing of the holder": {
			do:   func(q *queue) { v := q.asking(); q.notify(hintPush); q.found(one, v) },
			held: true, holder: one.ID, hint: hintPush,
		},
		"the next holder, found after the release": {
			do: func(q *queue) {
				q.found(one, q.asking())
				q.notify(hintReleased)
				q.take()
				q.found(two, q.asking())
			},
			held: true, holder: two.ID, missed: 1,
		},
		"another holder, and no release was heard of": {
			do:   func(q *queue) { q.found(one, q.asking()); q.found(two, q.asking()) },
			held: true, holder: two.ID, missed: 1,
		},
		"a late answer about another holder": {
			do: func(q *queue) {
				q.found(one, q.asking())
				v := q.asking()
				q.unknown()
				q.found(two, v)
			},
			missed: 1,
		},
		"got": {
			do: func(q *queue) {
				q.found(one, q.asking())
				q.found(two, q.asking())
				q.notify(hintReleased)
				q.got(q.asking())
			},
			held: true,
		},
		"got, and lost since": {
			do:   func(q *queue) { v := q.asking(); q.notify(hintReleased); q.got(v) },
			hint: hintReleased, missed: 1,
		},
		"the largest hint counts": {
			do: func(q *queue) {
				for _, h := range []hint{hintPush, hintLikely, hintUnheard, hintMaybe} {
					q.notify(h)
				}
			},
			hint: hintUnheard,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var qs queues
			q, _ := qs.join(testName, new(queued))
			tt.do(q)
			require.Equal(t, tt.held, q.isHeld())
			require.Equal(t, tt.holder, q.holderID())
			require.Equal(t, tt.hint, hintOf(q))
			require.Equal(t, tt.missed, q.missed)
		})
	}
}

func TestQueueSaysWhenAHolderChangedUnnoticed(t *testing.T) {
	var qs queues
	q, _ := qs.join(testName, new(queued))
	one, two := lockOf(1, testName, mark2), lockOf(2, testName, mark2)
	require.False(t, q.found(one, q.asking()), "the first one")
	require.False(t, q.found(one, q.asking()), "the same")
	require.True(t, q.found(two, q.asking()))
	q.notify(hintReleased)
	q.take()
	require.False(t, q.found(one, q.asking()), "its release was heard of")
}

func TestBroadcastOfADeletion(t *testing.T) {
	holders := map[string]*api.Lock{"arm": lockOf(1, "arm", mark2), "leg": lockOf(2, "leg", mark2)}
	other := testID(7)
	for _, tt := range []struct {
		what     string
		id, name string
		known    []string // names whose holder is known
		arm, leg hint
		unsure   []string
	}{
		{what: "a name", name: "arm", arm: hintReleased},
		{what: "a name and an id", id: other, name: "arm", known: []string{"arm"},
			arm: hintReleased},
		{what: "a name that nobody waits for", id: testID(1), name: "foot", known: []string{"arm"}},

		{what: "the id of a holder", id: testID(1), known: []string{"arm", "leg"},
			arm: hintReleased},
		{what: "the id of a holder, and one holder is unknown", id: testID(1),
			known: []string{"arm"},
			arm:   hintReleased, leg: hintLikely},
		{what: "another id", id: other, known: []string{"arm", "leg"}},
		{what: "another id, and one holder is unknown", id: other, known: []string{"leg"},
			arm: hintLikely},
		{what: "an id, and all holders are unknown", id: other, unsure: []string{"arm", "leg"}},

		{what: "nothing", unsure: []string{"arm", "leg"}},
		{what: "nothing, and all holders are known", known: []string{"arm", "leg"},
			unsure: []string{"arm", "leg"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var qs queues
			arm, _ := qs.join("arm", new(queued))
			leg, _ := qs.join("leg", new(queued))
			for _, name := range tt.known {
				qs.named(name).found(holders[name], 0)
			}
			var unsure []string
			for _, q := range qs.deleted(tt.id, tt.name) {
				unsure = append(unsure, q.name)
			}
			slices.Sort(unsure)
			require.Equal(t, tt.unsure, unsure)
			require.Equal(t, tt.arm, hintOf(arm))
			require.Equal(t, tt.leg, hintOf(leg))
			require.Equal(t, tt.id == "" && tt.name == "", qs.vague)
		})
	}
}

func TestBroadcastOfADeletionWhileOneNameIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		id    string
		known bool
		want  hint
	}{
		{"", false, hintMaybe}, {"", true, hintMaybe},
		{testID(1), true, hintReleased}, {testID(7), true, hintNone}, {testID(7), false,
			hintLikely},
	} {
		var qs queues
		arm, _ := qs.join("arm", new(queued))
		if tt.known {
			arm.found(lockOf(1, "arm", mark2), 0)
		}
		require.Empty(t, qs.deleted(tt.id, ""))
		require.Equal(t, tt.want, hintOf(arm), "%+v", tt)
	}
}

func TestContendedNamesAreLeftToOthersForAMoment(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var qs queues
		require.Zero(t, qs.yield("arm", 0))
		qs.lostRace("arm")
		require.Zero(t, qs.yield("leg", 0))
		for range 100 {
			d := qs.yield("arm", 0)
			require.True(t, yieldFor/2 <= d && d < yieldFor, d)
		}
		time.Sleep(contendedFor)
		require.NotZero(t, qs.yield("arm", 0))
		time.Sleep(time.Nanosecond)
		require.Zero(t, qs.yield("arm", 0))
		qs.lostRace("leg")
		require.Len(t, qs.contended, 1, "the other one is forgotten")
	})
}

func TestOwnReleaseIsContendedWhereBroadcastsNameNoLock(t *testing.T) {
	for _, tt := range []struct {
		vague bool
		names []string
		want  bool
	}{
		{true, []string{"arm", "leg"}, true},
		{true, []string{"arm"}, false},
		{false, []string{"arm", "leg"}, false},
	} {
		qs := queues{vague: tt.vague}
		for _, name := range tt.names {
			qs.join(name, new(queued))
		}
		qs.released("arm")
		require.Equal(t, tt.want, qs.yield("arm", 0) > 0, "%+v", tt)
		require.Zero(t, qs.yield("leg", 0))
	}
}

func TestAllThatWaitAreToldTheHolder(t *testing.T) {
	var qs queues
	told := map[string]*api.Lock{}
	for _, m := range []string{mark, mark2} {
		qs.join(testName, &queued{m, isFunc(func(holder *api.Lock) { told[m] = holder })})
	}
	qs.tell(qs.named(testName), nil)
	require.Empty(t, told)
	lock := lockOf(1, testName, mark2)
	qs.tell(qs.named(testName), lock)
	require.Equal(t, map[string]*api.Lock{mark: lock}, told, "but not the one whose own it is")
	require.NotSame(t, lock, told[mark])
}

package pgstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestTheLookoutForgets: however much stands in the way of however many, its memory is bounded.
func TestTheLookoutForgets(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var l tracker
		l.init()
		for i := range maxTried + 1 {
			name := fmt.Sprint("lock ", i)
			l.held(store.NewLock{Name: name, Waited: time.Second}, store.Lock{ID: name, Name: name})
		}
		require.Len(t, l.holders, maxHolders)
		require.Len(t, l.tried, maxTried)
		require.Contains(t, l.tried, fmt.Sprint("lock ", maxTried))
	})
}

// TestTheLookoutKnowsWhenToLook next, and for what.
func TestTheLookoutKnowsWhenToLook(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var l tracker
		l.init()
		began := time.Now()
		due := func() (free, nobody []string, look bool,
			wait time.Duration) {
			return l.due(time.Now(), began)
		}

		_, _, look, _ := due()
		require.False(t, look, "there is nothing to look for")
		in := store.NewLock{Name: "robot-arm-1", Waited: time.Second}
		holder := store.Lock{ID: "holder", Name: "robot-arm-1"}
		l.held(in, holder)
		_, _, look, wait := due()
		require.False(t, look)
		require.Equal(t, checkUnheard, wait)
		l.setUnheard(false)
		_, _, _, wait = due()
		require.Equal(t, checkEvery, wait)
		time.Sleep(checkEvery)
		_, _, look, _ = due()
		require.True(t, look)

		l.free(holder)
		_, nobody, look, wait := due()
		require.False(t, look)
		require.Empty(t, nobody)
		require.Equal(t, ownQueueHas, wait)
		time.Sleep(ownQueueHas)
		_, nobody, _, _ = due()
		require.Equal(t, []string{"robot-arm-1"}, nobody)

		l.left("robot-arm-1", 300*time.Millisecond)
		l.free(holder)
		l.held(in, holder) // tried again in time
		l.left("robot-arm-2", 300*time.Millisecond)
		time.Sleep(ownQueueHas)
		free, nobody, _, _ := due()
		require.Empty(t, free)
		require.Empty(t, nobody)
		time.Sleep(300 * time.Millisecond)
		free, _, _, _ = due()
		require.Equal(t, []string{"robot-arm-2"}, free)

		l.left("robot-arm-2", 300*time.Millisecond)
		time.Sleep(time.Millisecond)
		l.free(store.Lock{Name: "robot-arm-2"})
		l.made("robot-arm-2")
		time.Sleep(time.Second)
		free, nobody, _, _ = due()
		require.Empty(t, free)
		require.Empty(t, nobody)
	})
}

// TestTheLookoutIsNotWokenForEach name that is left to another server or comes free, which would be
// a look at all of them for each.
func TestTheLookoutIsNotWokenForEach(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var l tracker
		l.init()
		rings := 0
		rung := func() {
			select {
			case <-l.bell:
				rings++
				l.due(time.Now(), time.Now())
			default:
			}
		}
		l.setUnheard(false)
		rung()
		for i := range 1000 {
			name := fmt.Sprint("lock ", i)
			l.left(name, 300*time.Millisecond)
			rung()
			time.Sleep(time.Microsecond)
			l.free(store.Lock{Name: name})
			rung()
		}
		require.LessOrEqual(t, rings, 3)
		l.left("lock 7", time.Millisecond) // sooner than all the others
		rung()
		require.LessOrEqual(t, rings, 4)
		time.Sleep(time.Second)
		free, nobody, _, _ := l.due(time.Now(), time.Now())
		require.Len(t, free, 1000)
		require.Len(t, nobody, 999) // lock 7 was tried since
	})
}

package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// sharedStore is one server's view of a store that two share.
type sharedStore struct {
	store.Store
	here, there *atomic.Pointer[[]store.Waiter]
}

func (s *sharedStore) Publish(_ context.Context, waiters []store.Waiter) error {
	s.here.Store(&waiters)
	return nil
}

func (s *sharedStore) Published(context.Context) ([]store.Waiter, error) {
	if w := s.there.Load(); w != nil {
		return *w, nil
	}
	return nil, nil
}

// A holder is told of those who wait on another server, at most 2 s late, and again on another
// connection.
func TestWantedElsewhere(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := memstore.New()
		var atA, atB atomic.Pointer[[]store.Waiter]
		a := start(t, &sharedStore{s, &atA, &atB})
		defer a.end()
		b := start(t, &sharedStore{s, &atB, &atA})
		defer b.end()
		onA, onB := a.connect(), b.connect()
		onA.acquire("holder")
		synctest.Wait()
		onA.told()
		wait := func(want ...string) {
			t.Helper()
			time.Sleep(2*boardPause + 1)
			require.Equal(t, append([]string{}, want...), onA.told())
		}
		wait()
		onB.acquire("second")
		wait("wanted by 1")
		onA.acquire("third") // it is known already that somebody waits
		wait()
		require.NoError(t, onA.cancel("third"))
		wait()
		require.NoError(t, onB.cancel("second"))
		wait("wanted by 0")
		onB.acquire("fourth")
		wait("wanted by 1")
	})
}

// TestWaitersOfAllServers are listed and counted, at most 2 s late, and reported 1 s after that.
func TestWaitersOfAllServers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := memstore.New()
		var atA, atB atomic.Pointer[[]store.Waiter]
		a := start(t, &sharedStore{s, &atA, &atB})
		defer a.end()
		b := start(t, &sharedStore{s, &atB, &atA})
		defer b.end()
		onA, onB := a.connect(), b.connect()
		onA.acquire("holder")
		synctest.Wait()
		onA.acquire("first")
		time.Sleep(time.Millisecond)
		onB.acquire("second", progress)
		time.Sleep(time.Millisecond)
		onA.acquire("third", progress)
		time.Sleep(2*boardPause + progressPause + 1)
		require.Equal(t, 3, a.waiting("robot"))
		require.Equal(t, 3, b.waiting("robot"))
		waiting, err := b.Waiting(t.Context())
		require.NoError(t, err)
		for i, creator := range []string{"first", "second", "third"} {
			require.Equal(t, creator, *waiting[i].Creator)
		}
		told := onB.told()
		require.Equal(t, "second waits, 1 ahead, held by holder", told[len(told)-1])
		told = onA.told()
		require.Equal(t, "third waits, 2 ahead, held by holder", told[len(told)-1])
		require.NoError(t, onA.cancel("first"))
		time.Sleep(2*boardPause + progressPause + 1)
		told = onB.told()
		require.Equal(t, "second waits, 0 ahead, held by holder", told[len(told)-1])
	})
}

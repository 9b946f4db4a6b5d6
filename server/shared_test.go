package server_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// shared is one server's view of a store that several servers use: it tells the others what it
// does. It can go deaf, as when a connection for notifications breaks.
type shared struct {
	store.Store
	bus *bus
}

type bus struct {
	mu   sync.Mutex
	ears map[*shared]func(store.Event)
	deaf chan struct{} // closed: a listener gets an error
}

func newBus() *bus {
	return &bus{ears: map[*shared]func(store.Event){}, deaf: make(chan struct{})}
}

func (s *shared) tell(e store.Event) {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	for other, hear := range s.bus.ears {
		if other != s {
			hear(e)
		}
	}
}

func (s *shared) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	lock, err := s.Store.Create(ctx, in)
	if err == nil {
		s.tell(store.Event{Kind: store.EventCreated, Lock: lock})
	}
	return lock, err
}

func (s *shared) Update(ctx context.Context, id string, c store.Change) (store.Lock, error) {
	lock, err := s.Store.Update(ctx, id, c)
	if err == nil {
		s.tell(store.Event{Kind: store.EventUpdated, Lock: lock})
	}
	return lock, err
}

func (s *shared) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	lock, err := s.Store.Delete(ctx, id, end)
	if err == nil {
		s.tell(store.Event{Kind: store.EventDeleted, Lock: lock})
	}
	return lock, err
}

func (s *shared) Cancel(ctx context.Context, owner, mark string) ([]store.Lock, error) {
	locks, err := s.Store.Cancel(ctx, owner, mark)
	if err == nil {
		s.tell(store.Event{
			Kind: store.EventCancelled, Mark: mark, Lock: store.Lock{Owner: owner},
		})
		s.tellDeleted(locks)
	}
	return locks, err
}

func (s *shared) Sweep(ctx context.Context, limits store.Limits) (store.Swept, error) {
	swept, err := s.Store.Sweep(ctx, limits)
	s.tellDeleted(swept.Locks)
	return swept, err
}

func (s *shared) tellDeleted(locks []store.Lock) {
	for _, lock := range locks {
		s.tell(store.Event{Kind: store.EventDeleted, Lock: lock})
	}
}

func (s *shared) Watch(ctx context.Context, hear func(store.Event)) error {
	s.bus.mu.Lock()
	s.bus.ears[s] = hear
	deaf := s.bus.deaf
	hear(store.Event{Kind: store.EventMissed})
	s.bus.mu.Unlock()
	defer func() {
		s.bus.mu.Lock()
		delete(s.bus.ears, s)
		s.bus.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-deaf:
		return errors.New("the connection broke")
	}
}

func (b *bus) interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.deaf)
	clear(b.ears)
	b.deaf = make(chan struct{})
}

func startTwo(t *testing.T, opts ...server.Option) (a, b *backend, bus *bus) {
	bus = newBus()
	st := memstore.New()
	a, b = startOn(t, &shared{st, bus}, opts...), startOn(t, &shared{st, bus}, opts...)
	synctest.Wait()
	return a, b, bus
}

func TestAReleaseOnAnotherServerWakesAWaiter(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b, _ := startTwo(t)
		watch := b.watch()
		held := a.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "waiter", 30)
		synctest.Wait()
		a.do(200, "PUT", "/v1/locks/"+held.ID, `{"creator":"x"}`)
		a.delete(held.ID)
		synctest.Wait()
		w.granted(t)
		require.Len(t, watch.take(), 4, "created, updated, deleted, created")
	})
}

func TestACancelOnAnotherServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b, _ := startTwo(t)
		a.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", marked, 30)
		synctest.Wait()
		other := a.create("robot-arm-2", marked)
		next := b.wait("robot-arm-2", "next", 30)
		synctest.Wait()
		a.cancel(mark)
		synctest.Wait()
		require.Equal(t, 410, (<-w.reply).status)
		require.NotEqual(t, other.ID, next.granted(t).ID)
		b.do(410, "POST", "/v1/locks", createBody("robot-arm-1", marked))
	})
}

// TestNewsAreLost: what the other server did unheard is found out once it can be heard again.
func TestNewsAreLost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b, bus := startTwo(t)
		held := a.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "waiter", 30)
		synctest.Wait()
		watch := b.watch()
		bus.interrupt()
		a.delete(held.ID)
		synctest.Wait()
		require.True(t, w.pending())
		time.Sleep(time.Second)
		synctest.Wait()
		w.granted(t)
		require.Equal(t, `MessageText {"deleted":true}`, watch.take()[0],
			"waiters for a name had better look")
	})
}

// TestANameIsFree: who is in line tries again, and watchers hear of nothing, because nothing was
// deleted.
func TestANameIsFree(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b, bus := startTwo(t)
		held := a.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "waiter", 30)
		synctest.Wait()
		_, err := a.st.(*shared).Store.Delete(t.Context(), held.ID, store.Ending{}) // unheard
		require.NoError(t, err)
		watch := b.watch()
		(&shared{bus: bus}).tell(store.Event{Kind: store.EventFree,
			Lock: store.Lock{Name: "robot-arm-1"}})
		synctest.Wait()
		w.granted(t)
		for _, message := range watch.take() {
			require.Contains(t, message, "created")
		}
	})
}

// TestWhoJoinsLooks: where news are lost for good, a name is still offered when somebody joins the
// line a second later.
func TestWhoJoinsLooks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := memstore.New()
		a, b := startOn(t, st), startOn(t, st) // that don't know of each other
		held := a.create("robot-arm-1", "")
		first := b.wait("robot-arm-1", "first", 30)
		synctest.Wait()
		a.delete(held.ID)
		synctest.Wait()
		require.True(t, first.pending())
		time.Sleep(time.Second + time.Millisecond)
		second := b.wait("robot-arm-1", "second", 30)
		synctest.Wait()
		b.delete(first.granted(t).ID)
		synctest.Wait()
		second.granted(t)
	})
}

// TestASweepByAnotherServer is as good as one's own, and expiries changed there are reckoned in.
func TestASweepByAnotherServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b, _ := startTwo(t, server.WithGrace(0))
		held := a.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "waiter", 30)
		synctest.Wait()
		a.do(200, "PUT", "/v1/locks/"+held.ID+"/keep_alive", `{"seconds":2}`)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		w.granted(t)
	})
}

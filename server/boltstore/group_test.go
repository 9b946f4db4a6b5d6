package boltstore_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// gate holds up writes to a file.
type gate struct {
	reached chan int64    // where the write that is held up goes
	pass    chan struct{} // one for each write; closed: all pass
}

// hold has the store's writes wait, from now on: all, or those of meta pages only, which come last
// in a transaction.
func hold(s *boltstore.Store, metaOnly bool) *gate {
	g := &gate{reached: make(chan int64, 1000), pass: make(chan struct{})}
	s.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
		if !metaOnly || s.IsLast(at) {
			g.reached <- at
			<-g.pass
		}
		return write(page, at)
	})
	return g
}

// later runs f, and its error comes some time.
func later(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func requireNotYet(t testing.TB, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		require.Fail(t, "it is answered", "%v", err)
	default:
	}
}

// TestGroupCommit: what comes while a transaction is under way shares the next one.
func TestGroupCommit(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const clients = 64
		s := open(t, newPath(t))
		s.Checkpoint() // from now on to the log
		commits := s.CountCommits()
		g := hold(s, false)
		var pending []<-chan error
		begin := func(n int) {
			for i := range n {
				name := fmt.Sprint("robot-arm-", len(pending)+i)
				pending = append(pending, later(func() error {
					_, err := s.Create(context.Background(), newLock(name))
					return err
				}))
			}
			synctest.Wait()
		}
		begin(1)
		<-g.reached // it has begun at once, without waiting for company
		begin(clients)
		for _, done := range pending {
			requireNotYet(t, done)
		}
		close(g.pass)
		for _, done := range pending {
			require.NoError(t, <-done)
		}
		require.Equal(t, 2, commits())
		require.Len(t, s.Content().Locks, 1+clients)
	})
}

// TestGroupCommitUnderLoad: the same with nothing held up, for creates and deletes.
func TestGroupCommitUnderLoad(t *testing.T) {
	const clients, rounds = 64, 20
	s := open(t, newPath(t))
	commits := s.CountCommits()
	var pending []<-chan error
	for c := range clients {
		pending = append(pending, later(func() error {
			for range rounds {
				lock, err := s.Create(context.Background(), newLock(fmt.Sprint("robot-arm-", c)))
				if err == nil {
					_, err = s.Delete(context.Background(), lock.ID, store.Ending{})
				}
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	for _, done := range pending {
		require.NoError(t, <-done)
	}
	t.Logf("%d creates and deletes in %d commits", 2*clients*rounds, commits())
	require.Less(t, commits(), 2*clients*rounds/4)
}

// TestNobodySeesWhatIsNotDurable: a transaction is stopped before its last sync, when a crash would
// take it back.
func TestNobodySeesWhatIsNotDurable(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		there := create(t, s, "there")
		g := hold(s, true)

		fresh := newLock("fresh")
		made := later(func() error { _, err := s.Create(context.Background(), fresh); return err })
		<-g.reached
		gone := later(func() error {
			_, err := s.Delete(context.Background(), there.ID, store.Ending{})
			return err
		})
		off := later(func() error {
			_,
				err := s.Cancel(context.Background(), owner, "mark")
			return err
		})
		clash := later(func() error {
			_,
				err := s.Create(context.Background(), newLock("fresh"))
			return err
		})
		marked := newLock("marked")
		marked.Mark = "mark"
		straggler := later(func() error {
			_,
				err := s.Create(context.Background(), marked)
			return err
		})
		check := func() {
			t.Helper()
			synctest.Wait()
			locks, err := s.List(t.Context())
			require.NoError(t, err)
			require.Equal(t, []store.Lock{there}, locks)
			_, err = s.Get(t.Context(), fresh.ID)
			require.ErrorIs(t, err, store.ErrGone)
			_, err = s.Holder(t.Context(), "fresh")
			require.ErrorIs(t, err, store.ErrGone)
			holder, err := s.Create(t.Context(), newLock("there"))
			require.ErrorIs(t, err, store.ErrHeld)
			require.Equal(t, there, holder)
			requireNotYet(t, gone)
			requireNotYet(t, off)
			requireNotYet(t, clash)
			requireNotYet(t, straggler)
		}
		check()
		requireNotYet(t, made)
		g.pass <- struct{}{} // the first is through, the others share the next
		require.NoError(t, <-made)
		<-g.reached
		there2, err := s.Get(t.Context(), there.ID)
		require.NoError(t, err)
		require.Equal(t, there, there2)
		holder, err := s.Create(t.Context(), newLock("fresh"))
		require.ErrorIs(t, err, store.ErrHeld)
		require.Equal(t, fresh.ID, holder.ID)
		requireNotYet(t, gone)
		requireNotYet(t, off)
		requireNotYet(t, clash) // although it can't be granted any more
		requireNotYet(t, straggler)
		close(g.pass)
		require.NoError(t, <-gone)
		require.NoError(t, <-off)
		require.ErrorIs(t, <-clash, store.ErrHeld)
		if err := <-straggler; err != nil { // whichever was first
			require.ErrorIs(t, err, store.ErrCancelled)
		}
	})
}

// TestADiskThatDoesNotAnswer holds up nobody for more than 4 s. What was begun comes about later,
// and Watch tells; what was not begun does not.
func TestADiskThatDoesNotAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		there := create(t, s, "there")
		heard := make(chan store.Event, 10)
		ctx, cancel := context.WithCancel(t.Context())
		watched := later(func() error { return s.Watch(ctx, func(e store.Event) { heard <- e }) })
		g := hold(s, false)

		const wait = 4 * time.Second
		start := time.Now()
		begun := later(func() error {
			_,
				err := s.Create(context.Background(), newLock("begun"))
			return err
		})
		<-g.reached
		queued := later(func() error {
			_,
				err := s.Create(context.Background(), newLock("queued"))
			return err
		})
		early, giveUp := context.WithCancel(t.Context())
		left := later(func() error {
			_, err := s.Delete(early, there.ID, store.Ending{})
			return err
		})
		synctest.Wait()
		giveUp()
		require.ErrorIs(t, <-left, context.Canceled, "it was not begun, so it need not wait")
		require.NoError(t, s.Ping(t.Context()), "it may just be slow")
		require.ErrorIs(t, <-begun, store.ErrUnavailable)
		require.ErrorIs(t, <-queued, store.ErrUnavailable)
		require.Equal(t, wait, time.Since(start))

		time.Sleep(time.Millisecond)
		start = time.Now()
		_, err := s.Create(t.Context(), newLock("refused"))
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorContains(t, err, "the disk has not responded for 4s")
		require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
		locks, err := s.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []store.Lock{there}, locks)
		require.Zero(t, time.Since(start))

		synctest.Wait()
		require.Empty(t, heard)
		close(g.pass)
		require.Equal(t, store.EventMissed, (<-heard).Kind)
		require.NoError(t, s.Ping(t.Context()))
		_, err = s.Holder(t.Context(), "begun")
		require.NoError(t, err, "it can be seen by the time that Watch tells")
		create(t, s, "later")
		require.Len(t, s.Content().Locks, 3)
		cancel()
		require.ErrorIs(t, <-watched, context.Canceled)
		require.Empty(t, heard)
	})
}

// TestTooManyAreWaiting: the queue for the disk is bounded.
func TestTooManyAreWaiting(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		g := hold(s, false)
		begun := later(func() error {
			_,
				err := s.Create(context.Background(), newLock("begun"))
			return err
		})
		<-g.reached
		var pending []<-chan error
		for range 10_001 {
			pending = append(pending, later(func() error {
				_, err := s.Sweep(context.Background(), store.Limits{Grace: time.Hour})
				return err
			}))
		}
		synctest.Wait()
		close(g.pass)
		require.NoError(t, <-begun)
		refused := 0
		for _, done := range pending {
			if err := <-done; err != nil {
				require.ErrorIs(t, err, store.ErrUnavailable)
				require.ErrorContains(t, err, "10000 requests are waiting for the disk")
				refused++
			}
		}
		require.Equal(t, 1, refused)
	})
}

// TestCloseAnswersEverybody: what was asked for before is done.
func TestCloseAnswersEverybody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		path := newPath(t)
		s := open(t, path)
		g := hold(s, false)
		var pending []<-chan error
		for i := range 3000 { // more than one transaction takes
			pending = append(pending, later(func() error {
				_, err := s.Create(context.Background(), newLock(fmt.Sprint("robot-arm-", i)))
				return err
			}))
		}
		watched := later(func() error {
			return s.Watch(
				context.Background(), func(store.Event) {})
		})
		<-g.reached
		synctest.Wait()
		closed := later(s.Close)
		synctest.Wait()
		requireNotYet(t, closed)
		_, err := s.Create(t.Context(), newLock("late"))
		require.ErrorIs(t, err, store.ErrUnavailable)
		close(g.pass)
		require.NoError(t, <-closed)
		for _, done := range pending {
			require.NoError(t, <-done)
		}
		require.NoError(t, <-watched)
		require.Len(t, contentOf(t, path).Locks, 3000)
	})
}

// TestCloseWithADiskThatDoesNotAnswer: it does not hang.
func TestCloseWithADiskThatDoesNotAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		path := newPath(t)
		s := open(t, path)
		g := hold(s, false)
		begun := later(func() error {
			_,
				err := s.Create(context.Background(), newLock("begun"))
			return err
		})
		<-g.reached
		start := time.Now()
		require.ErrorContains(t, s.Close(), "not closed yet: the disk has not responded for 4s")
		require.Equal(t, 4*time.Second, time.Since(start))
		require.ErrorIs(t, <-begun, store.ErrUnavailable)
		close(g.pass)
		synctest.Wait()
		require.Len(t, contentOf(t, path).Locks, 1)
		open(t, path)
	})
}

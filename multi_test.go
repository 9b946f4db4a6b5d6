package relukko_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// Goroutines of several clients lock random subsets of eight names, each in an order of its own.
// Nobody waits forever, and no name has two holders.
func TestMultiMutexNeverDeadlocks(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		const goroutines, rounds = 16, 5
		all := strings.Fields("a b c d e f g h")
		in := map[string]*occupants{}
		for _, name := range all {
			in[name] = new(occupants)
		}
		var longest atomic.Int64
		var g errgroup.Group
		for i := range goroutines {
			c, rnd := s.Client(), rand.New(rand.NewPCG(7, uint64(i)))
			g.Go(func() error {
				for range rounds {
					names := []string{}
					for _, j := range rnd.Perm(len(all))[:1+rnd.IntN(4)] {
						names = append(names, all[j])
					}
					var l locker = relukko.NewMultiMutex(c, names)
					if len(names) == 1 {
						l = relukko.NewMutex(c, names[0])
					}
					start := time.Now()
					held, err := l.Lock(t.Context())
					if err != nil {
						return err
					}
					longest.Store(max(longest.Load(), int64(time.Since(start))))
					for _, name := range names {
						in[name].enter()
					}
					time.Sleep(time.Duration(1+rnd.IntN(50)) * time.Millisecond)
					for _, name := range names {
						in[name].leave()
					}
					if err := errors.Join(held.Err(), l.Unlock(held)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		t.Logf("the longest wait: %v", time.Duration(longest.Load()))
		require.Less(t, time.Duration(longest.Load()), time.Minute)
		for name, o := range in {
			require.EqualValues(t, 1, o.most.Load(), name)
		}
		require.Empty(t, s.Locks())
	})
}

// While one waits for a and b, and b is held, another one can have a.
func TestMultiMutexHoldsNoneWhileItWaits(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		b := relukko.NewMutex(c, "b")
		heldB := lock(t, b)
		both := relukko.NewMultiMutex(c, []string{"a", "b"})
		waiting := locking(t, both)
		require.Equal(t, []string{"b"}, names(s))

		a := relukko.NewMutex(c, "a")
		start := time.Now()
		require.NoError(t, a.Unlock(lock(t, a)))
		require.Less(t, time.Since(start), 11*time.Second, "one reservation")

		start = time.Now()
		require.NoError(t, b.Unlock(heldB))
		held := <-waiting
		require.Less(t, time.Since(start), time.Second)
		require.ElementsMatch(t, []string{"a", "b"}, names(s))
		require.NoError(t, both.Unlock(held))
		require.Empty(t, s.Locks())
	})
}

// Two that hold one of the names, and then want the other, go on while one waits for both.
func TestMultiMutexWaitsForNoneInACircle(t *testing.T) {
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		bubble(t, order[0]+" then "+order[1], func(t *testing.T, s *relukkotest.Server) {
			first := relukko.NewMutex(s.Client(), order[0])
			second := relukko.NewMutex(s.Client(), order[1])
			outer := lock(t, first)
			both := relukko.NewMultiMutex(s.Client(), []string{"a", "b"})
			waiting := locking(t, both)
			start := time.Now()
			inner, err := second.Lock(outer)
			require.NoError(t, err)
			require.Less(t, time.Since(start), 11*time.Second, "one reservation")
			require.NoError(t, second.Unlock(inner))
			require.NoError(t, first.Unlock(outer))
			require.NoError(t, both.Unlock(<-waiting))
			require.Empty(t, s.Locks())
		})
	}
}

func TestMultiMutexIsOneSession(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMultiMutex(s.Client(), []string{"b", "a", "c"})
		require.Equal(t, "b, a, c", m.Name())
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		one, ok := m.FromContext(held)
		require.True(t, ok)
		require.Same(t, session(t, held), one)
		require.Equal(t, "b, a, c", one.Name())
		require.Equal(t, "b", one.Info().Name)
		var got []string
		for _, l := range one.Locks() {
			got = append(got, l.Name)
		}
		require.Equal(t, []string{"b", "a", "c"}, got)
		time.Sleep(5 * time.Minute) // it is renewed
		require.NoError(t, held.Err())
		require.NoError(t, one.Err())
		require.InDelta(t, time.Minute, time.Until(one.LeaseEnd()), float64(31*time.Second))
		require.NoError(t, one.Unlock())
		require.Equal(t, relukko.ErrUnlocked, context.Cause(held))
		require.ErrorIs(t, m.Unlock(held), relukko.ErrNotLocked)
		require.Empty(t, s.Locks())
	})
}

func TestMultiMutexLossOfOneEndsTheContext(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		losses := make(chan *relukko.LostError, 3)
		m := relukko.NewMultiMutex(s.Client(), []string{"a", "b", "c"},
			relukko.WithOnLost(func(e *relukko.LostError) { losses <- e }))
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		time.Sleep(2 * time.Second) // the first heartbeat, from which on events are heard
		require.True(t, s.Delete("c"))
		<-held.Done()
		lost := requireLost(t, held, relukko.LossDeleted)
		require.Equal(t, "c", lost.Name)
		require.Same(t, lost, session(t, held).Err())
		require.Same(t, lost, <-losses)
		require.ElementsMatch(t, []string{"a", "b"}, names(s), "the others stay held")

		err = m.Unlock(held)
		require.ErrorIs(t, err, lost)
		require.NotErrorIs(t, err, relukko.ErrNotReleased)
		require.Same(t, lost, session(t, held).Err(), "the first cause")
		require.Same(t, lost, context.Cause(session(t, held).CleanupContext()))
		require.Empty(t, s.Locks())
		require.Empty(t, losses)
	})
}

// What f returns of the losses is not reported again, whatever else is lost.
func TestMultiMutexDoReportsALossOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMultiMutex(s.Client(), []string{"a", "b", "c"})
		lose := func(names ...string) (lost, err error) {
			err = m.Do(t.Context(), func(ctx context.Context) error {
				for _, name := range names {
					require.True(t, s.Delete(name))
					synctest.Wait()
				}
				<-ctx.Done()
				lost = context.Cause(ctx)
				return lost
			})
			return lost, err
		}
		lost, err := lose("b")
		require.Same(t, lost, err)
		lost, err = lose("c", "a")
		require.ErrorIs(t, err, lost)
		require.Equal(t, 1, strings.Count(err.Error(), `lock "c"`), "%v", err)
		require.Equal(t, 1, strings.Count(err.Error(), `lock "a"`), "%v", err)

		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		require.True(t, s.Delete("a"))
		<-held.Done()
		require.Same(t, context.Cause(held), m.Unlock(held))
	})
}

func TestMultiMutexUnlockFindsALoss(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		like(httpapi.Original{NoSocket: true})(s)
		m := relukko.NewMultiMutex(s.Client(), []string{"a", "b"})
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		require.True(t, s.Delete("b"))
		err = m.Unlock(held)
		lost, ok := errors.AsType[*relukko.LostError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "b", lost.Name)
		require.Empty(t, s.Locks())
	})
}

func TestMultiMutexUnlockNamesWhatIsNotReleased(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		m := relukko.NewMultiMutex(s.Client(), []string{"a", "b"})
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		s.GoDark()
		err = m.Unlock(held)
		require.ErrorIs(t, err, relukko.ErrNotReleased)
		require.NotErrorIs(t, err, relukko.ErrLockLost)
		require.ErrorContains(t, err, `lock "a" (`)
		require.ErrorContains(t, err, `lock "b" (`)
		s.ComeBack()
		time.Sleep(20 * time.Second) // retried in the background
		require.Empty(t, s.Locks())
	})
}

func TestMultiMutexTryLockHoldsAllOrNone(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		c := s.Client()
		b := relukko.NewMutex(c, "b")
		heldB := lock(t, b)
		m := relukko.NewMultiMutex(c, []string{"a", "b"})
		start := time.Now()
		ctx, err := m.TryLock(t.Context())
		require.Less(t, time.Since(start), 100*time.Millisecond)
		require.Error(t, ctx.Err())
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.ErrorContains(t, err, `relukko: locks "a, b": not all of them are free`)
		synctest.Wait()
		time.Sleep(time.Second) // what it had is released in the background
		require.Equal(t, []string{"b"}, names(s))
		require.NoError(t, b.Unlock(heldB))
		held, err := m.TryLock(t.Context())
		require.NoError(t, err)
		_, err = m.TryLock(t.Context())
		require.ErrorIs(t, err, relukko.ErrLocked, "in this process")
		require.NoError(t, m.Unlock(held))
		require.Empty(t, s.Locks())
	})
}

// A Lock that gives up says who holds what it waits for, and leaves nothing.
func TestMultiMutexGivesUp(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		c := s.Client()
		b := relukko.NewMutex(c, "b", relukko.WithCreator("carol"))
		heldB := lock(t, b)
		m := relukko.NewMultiMutex(c, []string{"a", "b", "c"})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Minute, errCancelled)
		defer cancel()
		start := time.Now()
		_, err := m.Lock(ctx)
		require.Equal(t, 5*time.Minute, time.Since(start))
		require.ErrorIs(t, err, errCancelled)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		locked, ok := errors.AsType[*relukko.LockedError](err)
		require.True(t, ok, "%v", err)
		if locked.Holder != nil {
			require.Equal(t, "b", locked.Name)
			require.ErrorContains(t, err, `"b" is held by carol`)
		}
		time.Sleep(time.Second)
		require.Equal(t, []string{"b"}, names(s))
		require.NoError(t, b.Unlock(heldB))
	})
}

// Where a lock is lost while the others are not acquired yet, all are acquired anew.
func TestMultiMutexBeginsAnewAfterALoss(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		c := s.Client()
		b := relukko.NewMutex(c, "b")
		heldB := lock(t, b)
		m := relukko.NewMultiMutex(c, []string{"b", "a"})
		waiting := locking(t, m)
		time.Sleep(3 * time.Second)
		require.True(t, s.Delete("a"))
		time.Sleep(3 * time.Second)
		require.ElementsMatch(t, []string{"a", "b"}, names(s), "it has a again")
		require.NoError(t, b.Unlock(heldB))
		held := <-waiting
		require.NoError(t, held.Err())
		require.NoError(t, m.Unlock(held))
		require.Empty(t, s.Locks())
	})
}

// A MultiMutex that waits goes on where the stream goes, and where the client closes.
func TestMultiMutexGoesOnWithoutTheStream(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		b := relukko.NewMutex(s.Client(), "b")
		heldB := lock(t, b)
		c := s.Client()
		m, other := relukko.NewMultiMutex(c, []string{"b", "a"}), relukko.NewMultiMutex(c,
			[]string{"a", "b"})
		waiting := locking(t, m)
		require.Equal(t, []string{"b"}, names(s))
		s.RefuseWebSockets(true)
		s.DropWebSockets()
		time.Sleep(30 * time.Second)
		require.ElementsMatch(t, []string{"a", "b"}, names(s), "one after the other")
		time.Sleep(10 * time.Minute)
		s.RefuseWebSockets(false)
		time.Sleep(10 * time.Minute)
		require.NoError(t, b.Unlock(heldB))
		held := <-waiting
		require.NoError(t, m.Unlock(held))
		heldB = lock(t, b)

		s.RefuseWebSockets(true)
		s.DropWebSockets()
		failed := make(chan error, 1)
		go func() {
			_, err := other.Lock(t.Context())
			failed <- err
		}()
		time.Sleep(30 * time.Second)
		require.ElementsMatch(t, []string{"a", "b"}, names(s), "one after the other")
		require.NoError(t, c.Shutdown(t.Context()))
		require.ErrorIs(t, <-failed, api.ErrClosed)
		require.Equal(t, []string{"b"}, names(s))
		require.NoError(t, b.Unlock(heldB))
	})
}

func TestMultiMutexGoroutinesTakeTurns(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		m := relukko.NewMultiMutex(s.Client(), []string{"a", "b"})
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		first := locking(t, m)
		second := locking(t, m)
		<-session(t, held).Wanted()
		require.NoError(t, m.Unlock(held))
		held = <-first
		synctest.Wait()
		require.Empty(t, second)
		require.NoError(t, m.Unlock(held))
		require.NoError(t, m.Unlock(<-second))
		errWork := errors.New("it did not work")
		require.Same(t, errWork, m.Do(t.Context(), func(ctx context.Context) error {
			require.Len(t, s.Locks(), 2)
			return errWork
		}))
		require.Empty(t, s.Locks())
	})
}

// A holder learns that one waits for all of several names, of which it has one.
func TestMultiMutexIsWantedAndWants(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		both := relukko.NewMultiMutex(s.Client(), []string{"a", "b"})
		held, err := both.Lock(t.Context())
		require.NoError(t, err)
		b := locking(t, relukko.NewMutex(s.Client(), "b"))
		<-session(t, held).Wanted()
		require.NoError(t, both.Unlock(held))
		heldB := <-b
		again := locking(t, both)
		<-session(t, heldB).Wanted()
		require.NoError(t, session(t, heldB).Unlock())
		require.NoError(t, both.Unlock(<-again))
	})
}

// The holder that was reported last is shown, in errors too, also while other names are free.
func TestMultiMutexReportsTheHolders(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		a, b := relukko.NewMutex(c, "a"), relukko.NewMutex(c, "b", relukko.WithCreator("dave"))
		heldA, heldB := lock(t, a), lock(t, b)
		reports := make(chan relukko.Waiting, 100)
		m := relukko.NewMultiMutex(c, []string{"a", "b", "c"},
			relukko.WithOnWait(func(w relukko.Waiting) { reports <- w }))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		time.AfterFunc(5*time.Second, func() { a.Unlock(heldA) })
		_, err := m.Lock(ctx)
		require.ErrorContains(t, err, `"b" is held by dave`)
		synctest.Wait()
		var last relukko.Waiting
		for len(reports) > 0 {
			last = <-reports
		}
		require.Equal(t, "b", last.Holder.Name)
		require.NoError(t, b.Unlock(heldB))
	})
}

func TestMultiMutexThatIsInvalid(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		var many []string
		for i := range 101 {
			many = append(many, strings.Repeat("x", i+1))
		}
		for want, m := range map[string]*relukko.MultiMutex{
			`locks "": a MultiMutex has 1 to 100 names, not 0`: relukko.NewMultiMutex(c, nil),
			`a MultiMutex has 1 to 100 names, not 101`:         relukko.NewMultiMutex(c, many),
			`locks "a, b, a": the name "a" is in the MultiMutex twice`: relukko.NewMultiMutex(c,
				[]string{"a", "b", "a"}),
			`the name "" is empty`: relukko.NewMultiMutex(c, []string{"a", ""}),
			`the client is nil`:    relukko.NewMultiMutex(nil, []string{"a"}),
			`WithHandoff is for a Mutex`: relukko.NewMultiMutex(c, []string{"a"},
				relukko.WithHandoff()),
			`create one with NewMutex, NewPool or NewMultiMutex`: {},
		} {
			held, err := m.Lock(t.Context())
			require.ErrorContains(t, err, want)
			require.ErrorIs(t, context.Cause(held), err)
			_, err = m.TryLock(t.Context())
			require.ErrorContains(t, err, want)
			require.ErrorIs(t, m.Unlock(held), relukko.ErrNotLocked)
		}
	})
}

// A hundred long names fit.
func TestMultiMutexOfManyNames(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		var many []string
		for i := range 100 {
			many = append(many, strings.Repeat(`"`, 150)+strings.Repeat("x", i))
		}
		long := strings.Repeat(`"`, 255)
		m := relukko.NewMultiMutex(s.Client(), many, relukko.WithTTL(5*time.Second),
			relukko.WithCreator(long), relukko.WithReason(long))
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		require.Len(t, s.Locks(), 100)
		time.Sleep(time.Minute)
		require.NoError(t, held.Err())
		require.NoError(t, m.Unlock(held))
		require.Empty(t, s.Locks())
	})
}

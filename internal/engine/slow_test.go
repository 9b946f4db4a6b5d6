package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// slowStore is a store on another machine. Its calls can take their time, fail before or after
// they had their effect, and have it late.
type slowStore struct {
	store.Store
	mu sync.Mutex
	faults
}

type faults struct {
	delay time.Duration // before the effect
	reply time.Duration // of a create, after the effect
	fail  error
	after bool          // it fails after the effect
	late  time.Duration // the effect of a create that failed comes so much later
}

func newSlowStore() *slowStore { return &slowStore{Store: memstore.New()} }

func (s *slowStore) set(f faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

func (s *slowStore) now() faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

func (s *slowStore) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	f := s.now()
	time.Sleep(f.delay)
	if f.late > 0 {
		time.AfterFunc(f.late, func() { _, _ = s.Store.Create(ctx, in) })
	}
	if f.fail != nil && !f.after {
		return store.Lock{}, f.fail
	}
	lock, err := s.Store.Create(ctx, in)
	time.Sleep(f.reply)
	if f.fail != nil {
		return store.Lock{}, f.fail
	}
	return lock, err
}

func (s *slowStore) HandOver(
	ctx context.Context, id string, end store.Ending, next store.NewLock,
) (store.Handover, error) {
	f := s.now()
	time.Sleep(f.delay)
	if f.fail != nil && !f.after {
		return store.Handover{}, f.fail
	}
	both, err := s.Store.HandOver(ctx, id, end, next)
	if f.fail != nil {
		return store.Handover{}, f.fail
	}
	return both, err
}

func (s *slowStore) Claim(
	ctx context.Context, owner, mark string,
) (uint64, []store.Lock, error) {
	f := s.now()
	time.Sleep(f.delay)
	if f.fail != nil {
		return 0, nil, f.fail
	}
	return s.Store.Claim(ctx, owner, mark)
}

func (s *slowStore) Delete(
	ctx context.Context, id string, end store.Ending,
) (store.Lock, error) {
	f := s.now()
	time.Sleep(f.delay)
	if f.fail != nil && !f.after {
		return store.Lock{}, f.fail
	}
	lock, err := s.Store.Delete(ctx, id, end)
	if f.fail != nil {
		return store.Lock{}, f.fail
	}
	return lock, err
}

var (
	errDown    = errors.Join(store.ErrUnavailable, errors.New("down"))
	errNotDone = errors.Join(errDown, store.ErrNotDone)
)

// TestWaitersStayWhileTheStoreIsUnavailable: their names are offered again each second.
func TestWaitersStayWhileTheStoreIsUnavailable(t *testing.T) {
	for name, fail := range map[string]error{"not done": errNotDone, "unknown": errDown} {
		for _, after := range []bool{false, true} {
			if after && name == "not done" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				s := newSlowStore()
				run(t, s, func(b *bench) {
					s.set(faults{fail: fail, after: after})
					c := b.connect()
					c.acquire("a")
					c.acquire("b")
					c.acquire("t", noWait)
					time.Sleep(5 * time.Second)
					b.Heard(c.conn, 0)
					require.Equal(t, 2, b.waiting("robot"))
					c.told()
					s.set(faults{delay: s.now().delay})
					time.Sleep(2 * time.Second)
					require.Contains(t, c.told()[0], "a granted robot")
					require.NoError(t, c.release("robot"))
					require.Contains(t, c.told()[0], "b granted robot")
				})
			})
		}
	}
}

// TestACreateThatIsLateHasNoEffect: its mark was claimed again after the unknown outcome.
func TestACreateThatIsLateHasNoEffect(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		s.set(faults{fail: errDown, late: 10 * time.Second})
		c := b.connect()
		c.acquire("a")
		synctest.Wait()
		s.set(faults{})
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"a granted robot seen"}, c.told())
		require.NoError(t, c.release("robot"))
		time.Sleep(10 * time.Second)
		_, err := b.Holder(t.Context(), "robot")
		require.ErrorIs(t, err, store.ErrGone)
	})
}

// TestALockOfAnUnknownOutcomeIsSwept, if its waiter is not asked for it again: another one has come
// first since. Otherwise all would wait for it forever.
func TestALockOfAnUnknownOutcomeIsSwept(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		time.Sleep(10 * time.Second) // the sweeper rests: there is no lock
		s.set(faults{fail: errDown, after: true})
		c := b.connect()
		c.acquire("a")
		synctest.Wait()
		s.set(faults{})
		c.acquire("b", priority(1))
		for range int((leaseTime + store.LeaseGrace(leaseTime)) / time.Second) {
			b.Heard(c.conn, 0)
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"b granted robot seen", "wanted by 1"}, c.told())
	})
}

// TestAHandOverWithAnUnknownOutcome is resolved by a claim of the waiter's mark.
func TestAHandOverWithAnUnknownOutcome(t *testing.T) {
	for _, after := range []bool{false, true} {
		s := newSlowStore()
		run(t, s, func(b *bench) {
			c := b.connect()
			c.acquire("a")
			synctest.Wait()
			c.acquire("b")
			synctest.Wait()
			c.told()
			s.set(faults{fail: errDown, after: after})
			require.ErrorIs(t, c.release("robot"), store.ErrUnavailable)
			s.set(faults{delay: s.now().delay})
			time.Sleep(2 * time.Second)
			if after {
				require.Equal(t, []string{"wanted by 0", "b granted robot found"}, c.told())
			} else {
				require.Empty(t, c.told())
				require.NoError(t, c.release("robot"))
				require.Equal(t, []string{"b granted robot seen"}, c.told())
			}
		})
	}
}

// TestACancelThatCrossesAGrant waits for the store call, and deletes the lock.
func TestACancelThatCrossesAGrant(t *testing.T) {
	for name, fail := range map[string]error{"granted": nil, "unknown": errDown} {
		t.Run(name, func(t *testing.T) {
			s := newSlowStore()
			run(t, s, func(b *bench) {
				s.set(faults{delay: 2 * time.Second, fail: fail, after: true})
				c := b.connect()
				c.acquire("a")
				synctest.Wait()
				s.set(faults{delay: s.now().delay})
				answered := false
				b.Cancel(c.conn, "default", "a", func(err error) {
					require.NoError(t, err)
					answered = true
				})
				synctest.Wait()
				require.False(t, answered)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				require.True(t, answered)
				require.Empty(t, c.told())
				_, err := b.Holder(t.Context(), "robot")
				require.ErrorIs(t, err, store.ErrGone)
				require.Empty(t, b.marks)
				require.Empty(t, b.queues)
			})
		})
	}
}

// TestSeenAcrossAReconnect: a store call takes 2 s, and meanwhile the client comes back.
func TestSeenAcrossAReconnect(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		s.set(faults{delay: 2 * time.Second})
		c := b.connect()
		c.acquire("a")
		time.Sleep(time.Second)
		b.Disconnect(c.conn, false)
		back := b.connect()
		back.acquire("a", again)
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"a granted robot found"}, back.told())
		require.Empty(t, c.told())
	})
}

// TestAWaiterThatIsOfferedOneNameIsOfferedNoOther.
func TestAWaiterThatIsOfferedOneNameIsOfferedNoOther(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		s.set(faults{delay: time.Second})
		c := b.connect()
		c.acquire("a", names("x", "y"))
		c.acquire("b", names("y", "x"))
		time.Sleep(5 * time.Second)
		told := c.told()
		require.Contains(t, told, "a granted x seen")
		require.Contains(t, told, "b granted y seen")
	})
}

// TestWithoutWaitACallUnderWayIsAwaited.
func TestWithoutWaitACallUnderWayIsAwaited(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		s.set(faults{delay: time.Second})
		c := b.connect()
		c.acquire("a")
		c.acquire("b", noWait)
		require.Empty(t, c.told())
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"a granted robot seen",
			"b refused relukko: the name is held, held by a"}, c.told())
	})
}

// TestWithoutWaitACallForOneThatIsGoneIsAwaited: its lock, of which nobody is told, holds the name.
func TestWithoutWaitACallForOneThatIsGoneIsAwaited(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		s.set(faults{delay: time.Second})
		w := b.waiter("a", nil)
		w.Sink = NewSingle()
		b.Acquire(w) // claims its mark, and then creates
		time.Sleep(1500 * time.Millisecond)
		b.Abandon(w)
		c := b.connect()
		c.acquire("b", noWait)
		require.Empty(t, c.told())
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"b refused relukko: the name is held, held by a"}, c.told())
	})
}

// TestALateReplyNamesNoHolderThatIsGone: it was released after the store had looked, and before
// another acquire came, which must not be refused for it.
func TestALateReplyNamesNoHolderThatIsGone(t *testing.T) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		c := b.connect()
		c.acquire("a")
		c.told()
		s.set(faults{reply: 2 * time.Second})
		c.acquire("b")
		synctest.Wait()
		s.set(faults{})
		require.NoError(t, c.release("robot"))
		c.acquire("c", noWait)
		time.Sleep(3 * time.Second)
		told := strings.Join(c.told(), ", ")
		require.Contains(t, told, "b granted robot seen")
		require.Contains(t, told, "c refused relukko: the name is held")
		require.NotContains(t, told, "held by a")
	})
}

// TestAPlainAcquireThatEndsLeavesNoLock: its time is up, or its client is gone, while the store
// is slow or its outcome unknown.
func TestAPlainAcquireThatEndsLeavesNoLock(t *testing.T) {
	for name, fail := range map[string]error{"slow": nil, "unknown": errDown} {
		t.Run(name, func(t *testing.T) {
			s := newSlowStore()
			run(t, s, func(b *bench) {
				s.set(faults{delay: 2 * time.Second, fail: fail, after: true})
				gone, abandoned := b.plain("a")
				synctest.Wait()
				b.Abandon(abandoned)
				time.Sleep(5 * time.Second)
				s.set(faults{delay: s.now().delay})
				time.Sleep(5 * time.Second)
				require.Empty(t, gone.told())
				_, err := b.Holder(t.Context(), "robot")
				require.ErrorIs(t, err, store.ErrGone)

				s.set(faults{delay: 2 * time.Second, fail: fail, after: true})
				c, w := b.plain("b")
				synctest.Wait()
				b.Leave(w)
				time.Sleep(2 * time.Second)
				s.set(faults{delay: s.now().delay})
				time.Sleep(9 * time.Second)
				if fail == nil {
					require.Equal(t, []string{"b granted robot found"}, c.told())
					return
				}
				require.Len(t, c.told(), 1)
				_, err = b.Holder(t.Context(), "robot")
				require.ErrorIs(t, err, store.ErrGone)
				require.Empty(t, b.marks)
			})
		})
	}
}

// TestALockThatIsDeletedBeforeItIsGranted does not hold its name: the next one has that. Nor was it
// there when the engine started.
func TestALockThatIsDeletedBeforeItIsGranted(t *testing.T) {
	t.Run("later", func(t *testing.T) { testDeletedBeforeItIsGranted(t, holdOff) })
	t.Run("at the start", func(t *testing.T) { testDeletedBeforeItIsGranted(t, 0) })
}

func testDeletedBeforeItIsGranted(t *testing.T, after time.Duration) {
	s := newSlowStore()
	run(t, s, func(b *bench) {
		s.set(faults{reply: 200 * time.Millisecond})
		time.Sleep(after)
		c, other := b.connect(), b.connect()
		c.acquire("a")
		other.acquire("b")
		time.Sleep(100 * time.Millisecond)
		lock, err := b.Holder(t.Context(), "robot")
		require.NoError(t, err)
		_, err = b.Release(t.Context(), lock.ID, store.Ending{By: "boss"})
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []string{"a granted robot seen", `a deleted by ""`}, c.told())
		require.Equal(t, []string{"b granted robot seen"}, other.told())
	})
}

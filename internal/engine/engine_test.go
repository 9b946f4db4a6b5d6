package engine

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	leaseTime  = time.Minute
	maxWaiters = 20
)

// bench is an engine with what its tests need. All runs in a bubble.
type bench struct {
	*Engine
	t         *testing.T
	published []store.Event
	ids       atomic.Int64
	stop      context.CancelFunc
	numbers   uint64
}

func run(t *testing.T, s store.Store, f func(b *bench)) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, s)
		f(b)
		b.end()
	})
}

func start(t *testing.T, s store.Store) *bench {
	b := startBench(t, s, "id")
	synctest.Wait()
	return b
}

// startBench starts a bench whose locks have ids that begin with id.
func startBench(t *testing.T, s store.Store, id string) *bench {
	b := &bench{t: t}
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	b.Engine = New(ctx, s, Config{
		MaxWaiters: maxWaiters, Log: slog.New(slog.DiscardHandler),
		NewID:   func() string { return fmt.Sprintf("%s-%d", id, b.ids.Add(1)) },
		Publish: func(e store.Event) { b.published = append(b.published, e) },
		Flush:   func() {},
	})
	return b
}

func (b *bench) end() {
	b.Bye()
	b.stop()
	b.Wait()
}

// client is a connection, and what its sink was told.
type client struct {
	b    *bench
	conn *Conn
	log  []string
}

func (b *bench) connect() *client {
	c := &client{b: b}
	c.conn = b.Connect(c)
	return c
}

func (c *client) note(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

func (c *client) Granted(w *Waiter, locks []store.Lock, seen uint64) {
	known := "seen"
	if seen == 0 {
		known = "found"
	}
	var names []string
	for _, lock := range locks {
		names = append(names, lock.Name)
	}
	c.note("%s granted %s %s", nameOf(w), strings.Join(names, "+"), known)
}

func (c *client) Refused(w *Waiter, err error, holder *store.Lock) {
	if holder != nil {
		c.note("%s refused %v, held by %s", nameOf(w), err, markOf(holder))
		return
	}
	c.note("%s refused %v", nameOf(w), err)
}

func (c *client) Waiting(w *Waiter, ahead int, holder *store.Lock) {
	by := "?"
	if holder != nil {
		by = markOf(holder)
	}
	c.note("%s waits, %d ahead, held by %s", nameOf(w), ahead, by)
}

func (c *client) Deleted(lock *store.Lock, by string) {
	c.note("%s deleted by %q", markOf(lock), by)
}
func (c *client) Wanted(_ string, waiters int) { c.note("wanted by %d", waiters) }
func (c *client) Flush()                       {}

func (b *bench) waiting(name string) int {
	waiters, err := b.Waiters(b.t.Context())
	require.NoError(b.t, err)
	return waiters[name]
}

func nameOf(w *Waiter) string { return *w.New.Creator }

// markOf returns the creator, which is the mark in these tests.
func markOf(lock *store.Lock) string {
	if lock.Creator == nil {
		return "nobody"
	}
	return *lock.Creator
}

// told returns what the sink was told since the last call.
func (c *client) told() []string {
	synctest.Wait()
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	log := append([]string{}, c.log...)
	c.log = nil
	return log
}

type option func(*Waiter)

func again(w *Waiter)          { w.Again = true }
func noWait(w *Waiter)         { w.Wait = false }
func progress(w *Waiter)       { w.Progress = true }
func names(n ...string) option { return func(w *Waiter) { w.Names = n } }
func priority(n int) option    { return func(w *Waiter) { w.Priority = n } }
func waited(d time.Duration) option {
	return func(w *Waiter) { w.Waited = d }
}

func (b *bench) waiter(mark string, opts []option) *Waiter {
	b.numbers++
	w := &Waiter{
		N: b.numbers, Names: []string{"robot"}, Wait: true,
		New: store.NewLock{Creator: &mark, IP: "1.2.3.4", Owner: "default", Mark: mark,
			TTL: leaseTime, Leased: true},
	}
	for _, o := range opts {
		o(w)
	}
	return w
}

// acquire sends an acquire with that mark.
func (c *client) acquire(mark string, opts ...option) {
	w := c.b.waiter(mark, opts)
	w.Conn = c.conn
	c.b.Heard(c.conn, w.N)
	c.b.Acquire(w)
}

// cancel sends a cancel and returns its answer.
func (c *client) cancel(mark string) (err error) {
	answered := false
	c.b.Cancel(c.conn, "default", mark, func(e error) { err, answered = e, true })
	synctest.Wait()
	require.True(c.b.t, answered)
	return err
}

// release deletes the lock that holds the name.
func (c *client) release(name string) error {
	lock, err := c.b.Holder(c.b.t.Context(), name)
	require.NoError(c.b.t, err)
	c.b.Delete(c.conn, lock.ID, store.Ending{By: "default"},
		func(_ store.Lock, e error) { err = e })
	synctest.Wait()
	return err
}

// plain sends a plain create without a mark, and returns a client whose sink has its end.
func (b *bench) plain(creator string, opts ...option) (*client, *Waiter) {
	c := &client{b: b}
	w := b.waiter(creator, opts)
	w.New.Mark, w.New.Leased, w.Sink = "", false, c
	b.Acquire(w)
	return c, w
}

func TestQueueIsServedInItsOrder(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c, other := b.connect(), b.connect()
		c.acquire("a")
		require.Equal(t, []string{"a granted robot seen"}, c.told())
		other.acquire("b")
		c.acquire("c")
		other.acquire("urgent", priority(1))
		c.acquire("returns", waited(time.Hour))
		require.Equal(t, []string{"wanted by 1"}, c.told())
		require.NoError(t, c.release("robot"))
		require.Equal(t, []string{"returns granted robot seen", "wanted by 3"}, c.told())
		require.NoError(t, c.release("robot"))
		require.Equal(t, []string{"urgent granted robot seen", "wanted by 2"}, other.told())
		require.NoError(t, other.release("robot"))
		require.Equal(t, []string{"b granted robot seen", "wanted by 1"}, other.told())
		require.NoError(t, other.release("robot"))
		require.Equal(t, []string{"c granted robot seen"}, c.told())
		require.NoError(t, c.release("robot"))
		require.Empty(t, c.told())
		require.Empty(t, b.queues)
		require.Empty(t, b.byHolder)
		require.Empty(t, b.marks)
		require.Empty(t, b.holding)
		require.Zero(t, b.open)
	})
}

func TestWithoutWaitAHeldNameIsRefused(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c := b.connect()
		c.acquire("a")
		c.acquire("b", noWait)
		c.acquire("c", noWait, names("robot", "arm"))
		c.acquire("d", noWait, names("robot", "arm"))
		require.Equal(t, []string{
			"a granted robot seen",
			"b refused relukko: the name is held, held by a",
			"c granted arm seen",
			"d refused relukko: the name is held, held by c",
		}, c.told())
		require.Zero(t, b.open-0)
	})
}

func TestAPlaceWithoutAConnectionIsPassedOver(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		holder, dead, c := b.connect(), b.connect(), b.connect()
		holder.acquire("a")
		dead.acquire("b")
		dead.acquire("late")
		c.acquire("c")
		b.Disconnect(dead.conn, false)
		require.NoError(t, holder.release("robot"))
		require.Equal(t, []string{"c granted robot seen", "wanted by 2"}, c.told())
		time.Sleep(keepPlace - time.Second)
		back := b.connect()
		c.acquire("new")
		back.acquire("b", again)
		require.NoError(t, c.release("robot"))
		require.Equal(t, []string{"b granted robot seen", "wanted by 2"}, back.told())
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{}, c.told())
		require.Equal(t, 1, b.waiting("robot"), "the other place is dropped")
	})
}

func TestACloseGivesThePlacesUp(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		holder, c := b.connect(), b.connect()
		holder.acquire("a")
		c.acquire("b")
		b.Disconnect(c.conn, true)
		require.Zero(t, b.waiting("robot"))
		want := []string{"a granted robot seen", "wanted by 1", "wanted by 0"}
		require.Equal(t, want, holder.told())
	})
}

func TestASilentConnectionIsPassedOverUntilItIsHeard(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		holder, silent, c := b.connect(), b.connect(), b.connect()
		holder.acquire("a")
		silent.acquire("b")
		silent.acquire("b2")
		c.acquire("c")
		time.Sleep(leaseTime/2 + 1)
		b.Heard(c.conn, 0)
		require.NoError(t, holder.release("robot"))
		require.Equal(t, []string{"c granted robot seen", "wanted by 2"}, c.told())
		require.NoError(t, c.release("robot"))
		require.Empty(t, silent.told())
		b.Heard(silent.conn, 0)
		require.Equal(t, []string{"b granted robot seen", "wanted by 1"}, silent.told())
	})
}

func TestAnAcquireIsIdempotentByItsMark(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c, other := b.connect(), b.connect()
		c.acquire("a")
		c.acquire("b")
		c.acquire("b")
		require.Equal(t, 1, b.waiting("robot"))
		c.acquire("b", names("other"))
		other.acquire("a", again)
		require.Equal(t, []string{"a granted robot seen", "wanted by 1",
			"b refused relukko: the mark is in use for other names"}, c.told())
		require.Equal(t, []string{"a granted robot found", "wanted by 1"}, other.told())
		other.acquire("b", again)
		require.Equal(t, 1, b.waiting("robot"))
		require.NoError(t, other.release("robot"))
		require.Equal(t, []string{"b refused relukko: the mark was claimed by a later request"},
			c.told())
		require.Equal(t, []string{"b granted robot seen"}, other.told())
	})
}

func TestCancel(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c, other := b.connect(), b.connect()
		c.acquire("a")
		c.acquire("b")
		require.NoError(t, c.cancel("b"))
		require.Zero(t, b.waiting("robot"))
		require.NoError(t, c.cancel("a"), "the grant has crossed it")
		require.Equal(t, []string{"a granted robot seen", "wanted by 1", "wanted by 0"}, c.told())
		_, err := b.Holder(t.Context(), "robot")
		require.ErrorIs(t, err, store.ErrGone)
		c.acquire("a")
		require.Equal(t, []string{"a granted robot seen"}, c.told(), "nothing was remembered")
		require.NoError(t, other.cancel("a"))
		require.Equal(t, []string{`a deleted by "default"`}, c.told())
		other.acquire("a", again)
		require.Equal(t, []string{"a refused relukko: the acquire was cancelled"}, other.told())
		require.Empty(t, b.marks)
	})
}

func TestDeletedIsToldToWhomItConcerns(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c, renewer, other := b.connect(), b.connect(), b.connect()
		c.acquire("a")
		lock, err := b.Holder(t.Context(), "robot")
		require.NoError(t, err)
		_, err = b.Release(t.Context(), lock.ID, store.Ending{By: "boss"})
		require.NoError(t, err)
		require.Equal(t, []string{"a granted robot seen", `a deleted by "boss"`}, c.told())
		c.acquire("b")
		other.acquire("c")
		lock, err = b.Holder(t.Context(), "robot")
		require.NoError(t, err)
		lease := leaseTime
		renewal := store.Change{Lease: &lease}
		done := func(_ store.Lock, err error) { require.NoError(t, err) }
		b.Renew(renewer.conn, lock.ID, renewal, done)
		b.Renew(renewer.conn, lock.ID, renewal, done)
		require.NoError(t, other.release("robot"))
		require.Equal(t, []string{"b granted robot seen", "wanted by 1"}, c.told())
		require.Equal(t, []string{"wanted by 1", `b deleted by "default"`}, renewer.told())
		require.Equal(t, []string{"c granted robot seen"}, other.told())
		time.Sleep(leaseTime + 10*time.Second)
		require.Equal(t, []string{`c deleted by ""`}, other.told())
	})
}

func TestProgress(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c, other := b.connect(), b.connect()
		c.acquire("a")
		c.acquire("b")
		other.acquire("c", progress)
		require.Equal(t, []string{"c waits, 1 ahead, held by a"}, other.told())
		require.NoError(t, c.release("robot"))
		time.Sleep(progressPause)
		require.Equal(t, []string{"c waits, 0 ahead, held by b"}, other.told())
		require.NoError(t, c.release("robot"))
		require.Equal(t, []string{"c granted robot seen"}, other.told())
	})
}

func TestProgressIsAskedForLater(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c, other := b.connect(), b.connect()
		c.acquire("a")
		other.acquire("b")
		other.acquire("c")
		require.Empty(t, other.told())
		other.acquire("c", progress, again)
		require.Equal(t, []string{"c waits, 1 ahead, held by a"}, other.told())
		time.Sleep(2 * progressPause)
		require.Empty(t, other.told())
		require.Equal(t, 2, b.waiting("robot"))
		require.NoError(t, c.release("robot"))
		time.Sleep(progressPause)
		require.Equal(t, []string{
			"b granted robot seen", "wanted by 1", "c waits, 0 ahead, held by b",
		}, other.told())
	})
}

// A waiter that comes back keeps its rank, to the microsecond, unless a clock must be wrong.
func TestRankOutlastsTheConnection(t *testing.T) {
	for _, c := range []struct {
		name  string
		shift time.Duration
		order []string
	}{
		{"it is kept", 0, []string{"first", "second"}},
		{"it is moved by a clock", -maxShift - 2*time.Second, []string{"second", "first"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, memstore.New(), func(b *bench) {
				holder := b.connect()
				holder.acquire("holder")
				back := func(rank time.Time) option {
					return func(w *Waiter) { w.Again, w.Rank = true, rank.Add(c.shift) }
				}
				first := time.Now()
				time.Sleep(time.Second)
				other := b.connect()
				second := back(first.Add(time.Microsecond))
				other.acquire("second", second, waited(999*time.Millisecond))
				other.acquire("first", back(first), waited(998*time.Millisecond))
				for _, mark := range c.order {
					require.NoError(t, holder.release("robot"))
					require.Contains(t, other.told(), mark+" granted robot seen")
				}
			})
		})
	}
}

func TestANameHeldAtTheStartWaitsForThoseWhoComeBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := memstore.New()
		before := start(t, s)
		c := before.connect()
		c.acquire("a")
		before.end()
		b := start(t, s)
		defer b.end()
		c, newcomer := b.connect(), b.connect()
		require.NoError(t, c.release("robot"))
		newcomer.acquire("new")
		_, w := b.plain("plain", noWait)
		require.True(t, w.ended)
		require.Empty(t, newcomer.told())
		time.Sleep(holdOff - 1)
		require.Empty(t, newcomer.told())
		c.acquire("b", again, waited(time.Second*9))
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"b granted robot seen", "wanted by 1"}, c.told())
	})
}

// TestThoseWhoComeBackInTheirOrderNeedNotWait: by the places that they were told before, it is
// known that nobody is missing who comes before them.
func TestThoseWhoComeBackInTheirOrderNeedNotWait(t *testing.T) {
	place := func(n int) option { return func(w *Waiter) { w.Again, w.Place = true, n } }
	bubble.Test(t, func(t *testing.T) {
		s := memstore.New()
		before := start(t, s)
		before.connect().acquire("a")
		before.end()
		b := start(t, s)
		defer b.end()
		c := b.connect()
		require.NoError(t, c.release("robot"))
		c.acquire("second", place(2), waited(2*time.Minute))
		c.acquire("new", func(w *Waiter) { w.Place = 1 })
		require.Empty(t, c.told(), "the first is missing")
		time.Sleep(time.Millisecond)
		c.acquire("first", place(1), waited(3*time.Minute))
		require.Equal(t, []string{"first granted robot seen", "wanted by 2"}, c.told())
		require.NoError(t, c.release("robot"))
		require.Equal(t, []string{"second granted robot seen", "wanted by 1"}, c.told())
		require.NoError(t, c.release("robot"))
		require.Empty(t, c.told(), "there may be a third one")
		time.Sleep(time.Millisecond)
		c.acquire("fourth", place(4), waited(time.Minute))
		require.Empty(t, c.told())
		time.Sleep(holdOff)
		require.Equal(t, []string{"fourth granted robot seen", "wanted by 1"}, c.told())
	})
}

func TestAPlainClientGetsItsTurn(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c := b.connect()
		c.acquire("a")
		c.acquire("b")
		p, _ := b.plain("py", noWait)
		require.Equal(t, []string{"py refused relukko: the name is held, held by a"}, p.told())
		c.acquire("d")
		require.NoError(t, c.release("robot")) // to b, which came first
		c.told()
		b.published = nil
		require.NoError(t, c.release("robot"))
		require.Empty(t, c.told(), "the name is reserved")
		other, _ := b.plain("other", noWait)
		require.Equal(t, []string{"other refused relukko: the name is held"}, other.told())
		p, _ = b.plain("py", noWait)
		require.Equal(t, []string{"py granted robot found"}, p.told())
		require.NoError(t, p.release("robot"))
		require.Equal(t, []string{"d granted robot seen"}, c.told())
		require.NoError(t, c.release("robot"))
		require.Equal(t, []string{}, c.told())
	})
}

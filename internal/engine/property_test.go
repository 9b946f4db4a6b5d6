package engine

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

var (
	seeds   = flag.Int("seeds", 200, "the number of seeds of TestProperties")
	oneSeed = flag.Int("seed", 0, "the only seed of TestProperties")
)

// TestProperties lets clients do at random what clients do. The store is in memory, or slow, or
// slow and failing, or that and shared by two servers. It checks that
//
//   - no two clients that count their leases right hold a name at the same time;
//   - each acquire ends, once the store works and holders release;
//   - a cancel that succeeds leaves no lock of its mark, then or later;
//   - where nothing fails, waiters are served in the order of their ranks;
//   - a lease counts from a request that was sent before the lock was created;
//   - nothing is left at the end.
func TestProperties(t *testing.T) {
	first, last := 1, *seeds
	if *oneSeed > 0 {
		first, last = *oneSeed, *oneSeed
	}
	for seed := first; seed <= last; seed++ {
		bubble.Test(t, func(t *testing.T) {
			newWorld(t, seed).run()
		})
	}
}

// world is what one seed makes.
type world struct {
	t    *testing.T
	seed int
	*dice
	stores   *sharedStores
	nodes    []*node
	calm     atomic.Bool // nothing breaks any more
	breaks   bool        // connections break, and processes end
	restarts bool        // so do servers
	exact    bool        // the order is exact

	acquires sync.Map // by mark: *acquire
	going    sync.WaitGroup

	mu        sync.Mutex
	holders   map[string]*acquire // by name
	broken    map[string]bool     // by id: it was deleted by somebody else
	cancelled map[string]bool     // by mark
	marks     int
	ends      map[string]int // how acquires ended
}

func newWorld(t *testing.T, seed int) *world {
	w := &world{
		t: t, seed: seed, dice: newDice(uint64(seed)), holders: make(map[string]*acquire),
		broken: make(map[string]bool), cancelled: make(map[string]bool), ends: make(map[string]int),
	}
	mode := seed % 5
	w.stores = &sharedStores{dice: w.dice, slow: mode > 0, base: memstore.New(), created: w.created}
	w.stores.trace = func(e store.Event) {
		if *oneSeed > 0 {
			w.tracef("event %d %s %s %s of %v",
				e.Kind, e.Mark, e.Lock.Name, e.Lock.ID, markOf(&e.Lock))
		}
	}
	w.stores.faulty.Store(mode >= 3)
	w.breaks, w.exact = mode >= 2, mode < 3
	w.restarts = w.breaks && seed/5%2 == 0
	for range 1 + mode/4 {
		v := w.stores.view()
		n := &node{world: w, store: v}
		if mode == 0 {
			n.store = memoryView{v}
		}
		n.start()
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("-seed %d, at %s: "+format,
		append([]any{w.seed, time.Now().Format("04:05.000")}, args...)...)
}

func (w *world) run() {
	var procs []*proc
	for i := range 3 {
		p := &proc{world: w, id: i}
		procs = append(procs, p)
		p.connect()
		go p.live()
	}
	for range 60 {
		w.act(procs)
		if !w.one(3) {
			time.Sleep(w.upTo(time.Second))
		}
	}
	w.calm.Store(true)
	w.stores.faulty.Store(false)
	ended := make(chan struct{})
	go func() { w.going.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		w.dump()
	}
	for _, p := range procs {
		p.stop()
	}
	time.Sleep(plainRank + 30*time.Second)
	w.nothingIsLeft()
	for _, n := range w.nodes {
		n.stop()
	}
	<-ended
	if *oneSeed > 0 {
		w.t.Log(w.ends)
	}
}

// tracef logs what happens, where only one seed runs.
func (w *world) tracef(format string, args ...any) {
	if *oneSeed > 0 {
		w.t.Logf("%s "+format, append([]any{time.Now().Format("04:05.000")}, args...)...)
	}
}

// act does one thing.
func (w *world) act(procs []*proc) {
	switch p := procs[w.n(len(procs))]; w.n(12) {
	case 0, 1, 2, 3, 4, 5:
		w.begin(p)
	case 6, 7:
		w.going.Go(w.plain)
	case 8:
		if w.breaks {
			p.breakOff()
		}
	case 9:
		if w.breaks && w.one(3) {
			p.exit()
		}
	case 10:
		if w.restarts && w.one(3) {
			w.nodes[w.n(len(w.nodes))].restart()
		}
	case 11:
		w.breakLock()
	}
}

// breakLock deletes a lock that somebody else may hold.
func (w *world) breakLock() {
	locks, _ := w.stores.base.List(w.t.Context())
	if len(locks) == 0 {
		return
	}
	lock := locks[w.n(len(locks))]
	w.mu.Lock()
	w.broken[lock.ID] = true
	w.mu.Unlock()
	w.going.Go(func() { w.release(lock.ID, "boss") })
}

// release deletes a lock over HTTP.
func (w *world) release(id, by string) {
	for {
		var err error = store.ErrUnavailable
		w.nodes[w.n(len(w.nodes))].use(func(e *Engine) {
			_, err = e.Release(w.t.Context(), id, store.Ending{By: by})
		})
		if !isUnavailable(err) {
			return
		}
		time.Sleep(time.Second)
	}
}

func (w *world) created(in store.NewLock) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancelled[in.Mark] {
		w.failf("a lock of %s was created, which was cancelled", in.Mark)
	}
}

// enter records that a client counts on its lock; leave, that it does no more.
func (w *world) enter(a *acquire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, lock := range a.locks {
		if other := w.holders[lock.Name]; other != nil {
			if !w.broken[other.of(lock.Name).ID] && !w.broken[lock.ID] {
				w.failf("%s holds %s, and %s does", a.mark, lock.Name, other.mark)
			}
		}
		w.holders[lock.Name] = a
		w.tracef("%s enters %s until %s", a.mark, lock.Name, a.leaseEnd.Format("04:05.000"))
	}
}

// of returns the lock of that name.
func (a *acquire) of(name string) (lock store.Lock) {
	for _, l := range a.locks {
		if l.Name == name {
			lock = l
		}
	}
	return lock
}

func (w *world) leave(a *acquire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, lock := range a.locks {
		if w.holders[lock.Name] == a {
			delete(w.holders, lock.Name)
			w.tracef("%s leaves %s", a.mark, lock.Name)
		}
	}
}

func (w *world) ended(how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[how]++
}

func (w *world) nothingIsLeft() {
	locks, _ := w.stores.base.List(w.t.Context())
	for _, lock := range locks {
		w.failf("left: lock of %s, held by %s, expires %v",
			lock.Name, markOf(&lock), lock.ExpiresAt)
	}
	for i, n := range w.nodes {
		e := n.engine
		e.mu.Lock()
		sizes := []int{
			len(e.queues), len(e.byHolder), len(e.marks), len(e.holding), e.open, e.ranks,
		}
		e.mu.Unlock()
		if !slices.Equal(sizes, []int{0, 0, 0, 0, 0, 0}) {
			w.failf("left on server %d: queues, byHolder, marks, holding, open, ranks: %v",
				i, sizes)
		}
	}
}

// dump fails with those that still wait.
func (w *world) dump() {
	for i, n := range w.nodes {
		for _, q := range n.engine.queues {
			w.failf("server %d, %s: busy %v, retrying %v, holder %v, reserved %v", i, q.name,
				q.busy, q.retrying, q.holder, q.reserved)
			for p := range q.all() {
				w.failf("  %v", p.w)
			}
		}
	}
	w.acquires.Range(func(mark, a any) bool {
		if a := a.(*acquire); !a.over.Load() {
			w.failf("%s for %v, %s, has not ended", mark, a.names, a.doing.Load())
		}
		return true
	})
}

// node is a server.
type node struct {
	*world
	store  store.Store
	starts int

	mu     sync.Mutex
	engine *Engine // nil: it is down
	halt   func()
	users  sync.WaitGroup // requests over HTTP
	links  map[*link]struct{}
}

func (n *node) start() {
	n.starts++
	b := startBench(n.t, n.store, fmt.Sprintf("%p-%d", n, n.starts))
	n.mu.Lock()
	defer n.mu.Unlock()
	b.Engine.MaxWaiters = 1000
	n.engine, n.halt, n.links = b.Engine, b.stop, make(map[*link]struct{})
}

// use calls f, unless the server is down.
func (n *node) use(f func(*Engine)) {
	n.mu.Lock()
	e := n.engine
	if e != nil {
		n.users.Add(1)
	}
	n.mu.Unlock()
	if e != nil {
		defer n.users.Done()
		f(e)
	}
}

func (n *node) stop() {
	n.mu.Lock()
	e, links := n.engine, n.links
	if e == nil {
		n.mu.Unlock()
		return
	}
	n.engine, n.links = nil, nil
	n.mu.Unlock()
	e.Bye()
	time.Sleep(n.upTo(time.Second))
	for l := range links {
		l.disconnect(false)
		l.owner.lostLink(l)
	}
	n.users.Wait()
	n.halt()
	e.Wait()
}

func (n *node) restart() {
	n.going.Go(func() {
		n.mu.Lock()
		up := n.engine != nil
		n.mu.Unlock()
		if !up {
			return
		}
		n.stop()
		time.Sleep(n.upTo(4 * time.Second))
		n.start()
	})
}

// plain acquires over HTTP.
func (w *world) plain() {
	a := w.newAcquire()
	a.names, a.all = a.names[:1], false
	end := make(chan error, 1)
	waiter := a.waiter()
	waiter.Sink = plainSink{a, end}
	waiter.New.Mark, waiter.Wait = "", w.one(2)
	waiter.New.Leased = w.restarts || w.one(2) // a server that stops deletes nothing any more
	if creator := "py"; w.one(2) {
		waiter.New.Creator = &creator
	}
	defer a.over.Store(true)
	sent := time.Now()
	wait, gone := w.upTo(5*time.Second), w.one(6)
	w.nodes[w.n(len(w.nodes))].use(func(e *Engine) {
		e.Acquire(waiter)
		var err error
		select {
		case err = <-end:
		case <-time.After(wait):
			if gone {
				e.Abandon(waiter)
				w.ended("abandoned")
				return
			}
			e.Leave(waiter)
			err = <-end
		}
		if err != nil {
			w.ended("plain " + err.Error())
			return
		}
		w.ended("plain granted")
		a.doing.Store("holding over HTTP")
		a.leaseEnd = sent.Add(a.lease * 9 / 10)
	})
	if a.leaseEnd.After(time.Now()) {
		w.enter(a)
		time.Sleep(min(w.upTo(time.Second), time.Until(a.leaseEnd)))
		w.leave(a)
	}
	for _, lock := range a.locks {
		w.release(lock.ID, "default")
	}
}

// plainSink is the sink of an acquire over HTTP.
type plainSink struct {
	a   *acquire
	end chan error
}

func (s plainSink) Granted(w *Waiter, locks []store.Lock, _ uint64) {
	s.a.locks = locks
	s.a.inOrder(w)
	s.end <- nil
}
func (s plainSink) Refused(_ *Waiter, err error, _ *store.Lock) { s.end <- err }
func (s plainSink) Waiting(*Waiter, int, *store.Lock)           {}
func (s plainSink) Deleted(*store.Lock, string)                 {}
func (s plainSink) Wanted(string, int)                          {}
func (s plainSink) Flush()                                      {}

// acquire is one acquire of a client.
type acquire struct {
	*world
	mark     string
	names    []string
	all      bool // of the names
	lease    time.Duration
	wait     bool
	priority int
	began    time.Time

	locks    []store.Lock
	leaseEnd time.Time
	events   chan message
	killed   chan struct{} // closed when its process is gone
	doing    atomic.Value
	over     atomic.Bool
}

// message is one from the server.
type message struct {
	locks   []store.Lock
	seen    uint64
	on      *link
	n       uint64
	err     error
	deleted bool
}

func (w *world) newAcquire() *acquire {
	w.mu.Lock()
	w.marks++
	mark := fmt.Sprintf("m%d", w.marks)
	w.mu.Unlock()
	names := []string{"x", "y"}
	if w.one(2) {
		slices.Reverse(names)
	}
	if !w.one(4) {
		names = names[:1]
	}
	a := &acquire{
		world: w, mark: mark, names: names, lease: time.Duration(2+w.n(6)) * time.Second,
		wait: !w.one(4), began: time.Now(), events: make(chan message, 1000),
	}
	if w.one(5) {
		a.priority = w.n(21) - 10
	}
	a.all = len(names) > 1 && w.one(2)
	a.doing.Store("acquiring")
	w.acquires.Store(mark, a)
	return a
}

func (a *acquire) waiter() *Waiter {
	mark := a.mark
	return &Waiter{
		Names: a.names, All: a.all, Wait: a.wait, Progress: a.wait, Priority: a.priority,
		New: store.NewLock{Creator: &mark, IP: "1.2.3.4", Owner: "default", Mark: mark,
			TTL: a.lease, Leased: true},
	}
}

// inOrder checks that nobody was passed over. It is called under the engine's mutex.
func (a *acquire) inOrder(granted *Waiter) {
	if !a.exact || granted.Again || granted.All || granted.Conn == nil {
		return
	}
	e := a.nodes[0].engine
	if e == nil {
		return
	}
	q := e.queues[a.locks[0].Name]
	for p := range q.all() {
		if p.rank < granted.rank && p.w != nil && couldHave(e, p.w, q) {
			a.failf("%s was served before %s", nameOf(granted), nameOf(p.w))
		}
	}
}

// couldHave reports whether nothing but the order keeps a waiter from the name of the queue.
func couldHave(e *Engine, w *Waiter, q *queue) bool {
	return w.Conn != nil && len(w.Names) == 1 && w.Wait && !w.Again && w.arrived.Before(q.tried) &&
		!w.Conn.closed && !w.Conn.silent(time.Since(e.started), w.New.TTL)
}

package engine

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// proc is a process with a connection.
type proc struct {
	*world
	id int

	mu      sync.Mutex
	link    *link // nil: there is none
	open    []*acquire
	killed  chan struct{}
	stopped bool
}

// link is a connection of a process, and its sink.
type link struct {
	owner *proc
	node  *node
	e     *Engine
	conn  *Conn
	dead  atomic.Bool // its client does not hear of it any more
	once  sync.Once

	mu   sync.Mutex // that of its reader on the server
	n    uint64
	sent sync.Map // by number: when it was sent
}

// connect connects to some server that is up, and asks again for what is open.
func (p *proc) connect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil || p.stopped {
		return
	}
	if p.killed == nil {
		p.killed = make(chan struct{})
	}
	n := p.nodes[p.n(len(p.nodes))]
	n.mu.Lock()
	if n.engine == nil {
		n.mu.Unlock()
		return
	}
	l := &link{owner: p, node: n, e: n.engine}
	l.conn = l.e.Connect(l)
	n.links[l] = struct{}{}
	n.mu.Unlock()
	p.link = l
	for _, a := range p.open {
		l.acquire(a, true)
	}
}

// live connects again, and pings.
func (p *proc) live() {
	for {
		time.Sleep(300 * time.Millisecond)
		p.mu.Lock()
		l, stopped := p.link, p.stopped
		p.mu.Unlock()
		switch {
		case stopped:
			return
		case l == nil:
			p.connect()
		default:
			l.send(func(uint64) {})
		}
	}
}

// lostLink makes a process forget a connection.
func (p *proc) lostLink(l *link) {
	l.dead.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == l {
		p.link = nil
	}
}

// breakOff breaks the connection. The server learns of it later.
func (p *proc) breakOff() {
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	if l == nil {
		return
	}
	p.lostLink(l)
	p.going.Go(func() {
		time.Sleep(p.upTo(12 * time.Second))
		l.disconnect(false)
	})
	if p.one(2) {
		p.connect()
	}
}

// exit ends the process, which becomes another one.
func (p *proc) exit() {
	p.mu.Lock()
	l := p.link
	p.link, p.open = nil, nil
	if p.killed != nil {
		close(p.killed)
	}
	p.killed = nil
	p.mu.Unlock()
	if l != nil {
		l.dead.Store(true)
		l.disconnect(true)
	}
}

func (p *proc) stop() {
	p.mu.Lock()
	l := p.link
	p.link, p.stopped = nil, true
	p.mu.Unlock()
	if l != nil {
		l.disconnect(true)
	}
}

func (l *link) disconnect(closed bool) {
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.node.mu.Lock()
		delete(l.node.links, l)
		l.node.mu.Unlock()
		l.e.Disconnect(l.conn, closed)
	})
}

func (l *link) sentAt(n uint64) time.Time {
	sent, _ := l.sent.Load(n)
	return sent.(time.Time)
}

// send sends a request.
func (l *link) send(f func(n uint64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead.Load() {
		return
	}
	l.n++
	l.sent.Store(l.n, time.Now())
	l.e.Heard(l.conn, l.n)
	f(l.n)
}

func (l *link) acquire(a *acquire, again bool) {
	w := a.waiter()
	l.send(func(n uint64) {
		w.Conn, w.N, w.Again = l.conn, n, again
		if again {
			w.Waited = time.Since(a.began)
		}
		l.e.Acquire(w)
	})
}

func (l *link) tell(mark string, m message) {
	if l.dead.Load() {
		return
	}
	m.on = l
	a, _ := l.owner.acquires.Load(mark)
	a.(*acquire).events <- m
}

func (l *link) Granted(w *Waiter, locks []store.Lock, seen uint64) {
	a, _ := l.owner.acquires.Load(w.key.mark)
	if seen > 0 && !l.dead.Load() {
		// The lock's name is needed before the client has it.
		copied := acquire{world: l.owner.world, locks: locks}
		copied.inOrder(w)
		if sent := l.sentAt(seen); locks[0].ExpiresAt.Before(sent.Add(a.(*acquire).lease).UTC().
			Truncate(time.Microsecond)) {
			l.owner.failf("%s: seen %d is from after the create", w.key.mark, seen)
		}
	}
	l.tell(w.key.mark, message{locks: locks, seen: seen, n: w.N})
}

func (l *link) Refused(w *Waiter, err error, _ *store.Lock) {
	l.tell(w.key.mark, message{err: err})
}

func (l *link) Deleted(lock *store.Lock, _ string) {
	l.tell(*lock.Creator, message{locks: []store.Lock{*lock}, deleted: true})
}

func (l *link) Waiting(*Waiter, int, *store.Lock) {}
func (l *link) Wanted(string, int)                {}
func (l *link) Flush()                            {}

// current returns the connection; nil where there is none.
func (p *proc) current() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link
}

// begin begins an acquire.
func (w *world) begin(p *proc) {
	a := w.newAcquire()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil {
		return
	}
	a.killed = p.killed
	p.open = append(p.open, a)
	p.link.acquire(a, false)
	w.going.Go(func() {
		defer a.over.Store(true)
		how := p.await(a)
		p.close(a)
		w.ended(how)
	})
}

// close makes an acquire no longer be asked for.
func (p *proc) close(a *acquire) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = slices.DeleteFunc(p.open, func(o *acquire) bool { return o == a })
}

// await waits for the end of an acquire, and holds the lock.
func (p *proc) await(a *acquire) string {
	var giveUp <-chan time.Time
	if p.one(3) {
		giveUp = time.After(p.upTo(10 * time.Second))
	}
	for {
		select {
		case <-a.killed:
			return "killed"
		case <-giveUp:
			return p.cancel(a)
		case m := <-a.events:
			switch {
			case m.deleted:
			case m.err != nil:
				switch {
				case isUnavailable(m.err):
					return p.cancel(a)
				case errors.Is(m.err, store.ErrSuperseded):
					// An earlier connection's claim came after this one's.
					m.on.acquire(a, true)
					continue
				case !errors.Is(m.err, store.ErrHeld) || a.wait:
					p.failf("%s, which waits: %v, was refused: %v", a.mark, a.wait, m.err)
				}
				return "refused"
			case p.confirm(a, m):
				p.close(a)
				return p.hold(a)
			default:
				if l := p.current(); l == m.on {
					l.acquire(a, true)
				}
			}
		}
	}
}

// confirm begins the lease of a lock that was granted, and returns false if that is gone, or it is
// not known.
func (p *proc) confirm(a *acquire, m message) bool {
	a.doing.Store("confirming")
	a.locks = m.locks
	if m.seen >= m.n {
		a.leaseEnd = m.on.sentAt(m.seen).Add(a.lease * 9 / 10)
		return true
	}
	for m.on == p.current() {
		sent := time.Now()
		switch err := p.renew(a); {
		case err == nil:
			a.leaseEnd = sent.Add(a.lease * 9 / 10)
			return true
		case errors.Is(err, store.ErrGone):
			return false
		}
	}
	return false
}

var errNoAnswer = errors.New("no answer")

// ask sends a request and waits for the answer.
func (p *proc) ask(f func(l *link, done func(error))) error {
	l := p.current()
	if l == nil {
		time.Sleep(300 * time.Millisecond)
		return errNoAnswer
	}
	answer := make(chan error, 1)
	l.send(func(uint64) {
		f(l, func(err error) {
			if !l.dead.Load() {
				answer <- err
			}
		})
	})
	for range 20 {
		select {
		case err := <-answer:
			if isUnavailable(err) {
				time.Sleep(500 * time.Millisecond)
			}
			return err
		case <-time.After(500 * time.Millisecond):
			if l.dead.Load() {
				return errNoAnswer
			}
		}
	}
	p.failf("a request was not answered for 10 s")
	return errNoAnswer
}

func (p *proc) renew(a *acquire) (err error) {
	for _, lock := range a.locks {
		err = errors.Join(err, p.ask(func(l *link, done func(error)) {
			l.e.Renew(l.conn, lock.ID, store.Change{Lease: &a.lease},
				func(_ store.Lock, err error) { done(err) })
		}))
	}
	return err
}

// cancel cancels an acquire until that has an answer.
func (p *proc) cancel(a *acquire) string {
	a.doing.Store("cancelling")
	p.close(a)
	for {
		err := p.ask(func(l *link, done func(error)) {
			l.e.Cancel(l.conn, "default", a.mark, done)
		})
		select {
		case <-a.killed:
			return "killed"
		default:
		}
		if err != nil {
			continue
		}
		p.world.mu.Lock()
		p.cancelled[a.mark] = true
		p.world.mu.Unlock()
		locks, _ := p.stores.base.List(p.t.Context())
		for i := range locks {
			if markOf(&locks[i]) == a.mark {
				p.failf("%s was cancelled, but has a lock", a.mark)
			}
		}
		return "cancelled"
	}
}

// hold holds the lock for a while and releases it, unless it is deleted, or its process dies.
func (p *proc) hold(a *acquire) string {
	a.doing.Store("holding")
	if !time.Now().Before(a.leaseEnd) {
		return p.release(a, "released late")
	}
	p.enter(a)
	defer p.leave(a)
	over := time.After(p.upTo(1500 * time.Millisecond))
	renew := make(chan error, 1)
	next := time.After(a.lease / 4)
	var sent time.Time
	for {
		select {
		case <-a.killed:
			return "killed holding"
		case <-time.After(time.Until(a.leaseEnd)):
			p.leave(a)
			return p.release(a, "expired")
		case <-over:
			p.leave(a)
			return p.release(a, "released")
		case m := <-a.events:
			if m.deleted && m.locks[0].ID == a.of(m.locks[0].Name).ID {
				p.leave(a)
				return p.release(a, "deleted")
			}
		case <-next:
			sent = time.Now()
			go func() { renew <- p.renew(a) }()
		case err := <-renew:
			if err == nil {
				a.leaseEnd = sent.Add(a.lease * 9 / 10)
			}
			if errors.Is(err, store.ErrGone) {
				p.leave(a)
				return p.release(a, "gone")
			}
			next = time.After(a.lease / 4)
		}
	}
}

// release deletes the locks until they are gone.
func (p *proc) release(a *acquire, how string) string {
	a.doing.Store("releasing")
	for left := a.locks; len(left) > 0; {
		err := p.ask(func(l *link, done func(error)) {
			l.e.Delete(l.conn, left[0].ID, store.Ending{By: "default"},
				func(_ store.Lock, err error) { done(err) })
		})
		select {
		case <-a.killed:
			return "killed releasing"
		default:
		}
		if err == nil || errors.Is(err, store.ErrGone) {
			left = left[1:]
		}
	}
	return how
}

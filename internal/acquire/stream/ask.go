package stream

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// call is one acquire that is under way. It implements [durable] and [receiver]. The goroutine of
// the caller waits for signal, and handles what has happened.
type call struct {
	*stream
	r      *acquire.Request
	names  []string  // any one of these, or all
	name   [1]string // the memory of names, where it is one
	mark   string
	signal chan struct{}
	began  time.Time

	heard   time.Time       // when the server last said anything, or the call began
	retry   backoff.BackOff // of the present outage; nil: none
	counted time.Time       // when retry was last asked
	next    time.Time       // before which an outage does not count for retry

	// stream.mu guards the following.
	link    *link // on which it was sent last
	n       uint64
	leads   *link  // which the caller reads, as link.lead has returned true; nil: it does not
	earlier uint64 // under which it was sent before on the same link; 0: it was not
	paused  bool   // it is not to be sent for the moment
	again   bool   // it was sent before, on another connection or by another driver
	ended   bool   // the server has ended it, and knows no lock of its mark
	follow  bool   // the server is asked to tell its place
	rank    int64  // in the server's order; 0: unknown
	place   int    // in the queue of the only name: 1 is next; 0: unknown
	holder  *api.Lock
	isHeld  bool  // the name is held, as far as is known
	lastErr error // since the server last said who holds it
	result  result
}

// result is what has happened to a call.
type result struct {
	kind  resultKind
	lock  api.Lock
	more  []api.Lock    // of the second name and after it, where all were asked for
	since clock.Instant // zero: unknown
	err   error
	pause time.Duration // until the next connection is opened
}

type resultKind int

const (
	nothing resultKind = iota
	outage             // no connection could be opened
	granted            // this and the following end the wait
	refused            // by the server
	final              // later connections will fail as well
	gone               // there is no stream
)

func (c *call) lease() time.Duration { return c.r.Lease }

func (c *call) send(l *link) {
	if c.paused || c.result.kind >= granted {
		return
	}
	kind := wire.RequestAcquire
	if c.r.All != nil {
		kind = wire.RequestAcquireAll
		if !l.all {
			c.absent()
			return
		}
	}
	ask := wire.StreamRequest{Kind: kind, Acquire: wire.StreamAcquire{
		Names: c.names, Creator: c.r.Creator, Lease: c.r.Lease, Wait: c.r.Wait,
		Progress: c.follow, Priority: c.r.Priority, Again: !c.r.Sent.IsZero(),
	}}
	if ask.Acquire.Again {
		ask.Acquire.Waited = min(time.Since(c.r.Sent), wire.MaxWaited)
		ask.Acquire.Rank, ask.Acquire.Place = c.rank, c.place
	} else {
		c.r.Sent = time.Now()
	}
	c.again, c.ended = ask.Acquire.Again, false
	c.earlier = 0
	if c.link == l && l.open[c.n] == receiver(c) {
		c.earlier = c.n
	}
	c.link, c.n = l, l.request(&ask, c)
}

// forgetLocks forgets the locks that were granted but are not used. The caller holds c.mu.
func (c *call) forgetLocks(r *result) {
	delete(c.held, r.lock.ID)
	for i := range r.more {
		delete(c.held, r.more[i].ID)
	}
}

// forgetRequests ends the wait for answers. The caller holds c.mu.
func (c *call) forgetRequests() {
	if c.link == nil {
		return
	}
	for _, n := range []uint64{c.earlier, c.n} {
		if c.link.open[n] == receiver(c) {
			delete(c.link.open, n)
		}
	}
}

func (c *call) receive(l *link, m *wire.StreamMessage) (last bool, err error) {
	if m.Kind == wire.MessageError && m.N != c.n {
		return true, nil // the one that was sent later has an answer of its own
	}
	last, err = c.told(l, m)
	if last {
		c.forgetRequests()
	}
	return last, err
}

// waits records what the server has told of the queue.
func (c *call) waits(m *wire.StreamMessage) {
	c.isHeld, c.lastErr, c.rank = true, nil, m.Rank
	if len(c.names) == 1 {
		c.place = m.Ahead + 1
	}
	if m.Holder == nil && c.r.All == nil { // of all names, another one may be held
		c.holder = nil
	} else if m.Holder != nil {
		holder := lockOf(m.Holder)
		c.holder = &holder
	}
	c.r.Silence.Heard()
	c.r.Progress(c.holder, m.Ahead)
}

// told does what receive does, but for the requests that are open.
func (c *call) told(l *link, m *wire.StreamMessage) (last bool, err error) {
	switch m.Kind {
	case wire.MessageWaiting:
		c.waits(m)
		return false, nil
	case wire.MessageError:
		err := c.sockets.Refusal("create lock "+strconv.Quote(c.r.Name), false, &m.Err)
		c.ended = !c.again && m.Err.Status < 500
		c.lastErr = err
		c.tell(result{kind: refused, err: err})
		return true, nil
	case wire.MessageLock, wire.MessageLocks:
		if err := c.mine(m); err != nil {
			return true, err
		}
		r := result{kind: granted}
		if r.lock = lockOf(&m.Lock); m.Kind == wire.MessageLocks {
			r.lock = lockOf(&m.Locks[0])
			for i := range m.Locks[1:] {
				r.more = append(r.more, lockOf(&m.Locks[1+i]))
				c.held[r.more[i].ID] = early{}
			}
		}
		first := c.n
		if c.earlier != 0 {
			first = c.earlier
		}
		if m.HasSeen && first <= m.Seen && m.Seen <= l.n {
			r.since, _ = l.sends.before(m.Seen)
		}
		c.held[r.lock.ID] = early{}
		c.tell(r)
		return true, nil
	}
	return true, errWrongKind
}

// mine returns an error if what m grants is not what the call has asked for.
func (c *call) mine(m *wire.StreamMessage) error {
	if (m.Kind == wire.MessageLocks) != (c.r.All != nil) {
		return errWrongKind
	}
	if m.Kind == wire.MessageLock {
		return c.isMine(&m.Lock, c.names)
	}
	if len(m.Locks) != len(c.names) {
		return fmt.Errorf("the server granted %d locks of %d", len(m.Locks), len(c.names))
	}
	ids := make(map[string]bool)
	for i := range m.Locks {
		if id := m.Locks[i].ID; ids[id] {
			return fmt.Errorf("the server granted one lock for several names: %s", id)
		}
		ids[m.Locks[i].ID] = true
		if err := c.isMine(&m.Locks[i], c.names[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// isMine returns an error if l is not a lock that the call has asked for, of one of these names.
func (c *call) isMine(l *wire.Lock, names []string) error {
	switch {
	case !slices.Contains(names, l.Name):
		return fmt.Errorf("the server granted a lock of another name: %q", l.Name)
	case l.Creator == nil || *l.Creator != c.r.Creator:
		return fmt.Errorf("the server granted a lock of another creator: %s", l.ID)
	case !l.ExpiresAt.After(l.UpdatedAt):
		return fmt.Errorf("the server granted a lock that has expired: %s", l.ID)
	}
	return nil
}

func (c *call) lost(err error) { c.lastErr = err }

func (c *call) outage(err error, pause time.Duration, isFinal bool) {
	if c.result.kind >= granted {
		return
	}
	c.lastErr = err
	kind := outage
	if isFinal {
		kind = final
	}
	c.tell(result{kind: kind, err: err, pause: pause})
}

func (c *call) absent() {
	if c.result.kind != granted {
		c.tell(result{kind: gone})
	}
}

// tell has the caller's goroutine handle r. The caller holds c.mu.
func (c *call) tell(r result) {
	c.result = r
	c.notify()
}

// isDue has the caller's goroutine look at the call, also when it reads.
func (c *call) isDue() {
	c.notify()
	c.mu.Lock()
	l := c.leads
	c.mu.Unlock()
	if l != nil {
		l.interrupt()
	}
}

func (c *call) isNotified() bool { return len(c.signal) > 0 }

// notify has the caller's goroutine look at the call.
func (c *call) notify() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

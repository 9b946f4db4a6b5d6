package stream

import (
	"context"
	"errors"
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

// followAfter is how long a call waits until it asks for its place. Before, that is not worth a
// message.
const followAfter = 250 * time.Millisecond

// ErrAbsent is the error of an acquire, but for all of several names, if there is no stream. It may
// have been sent: the request's Sent says so.
var ErrAbsent = errors.New("there is no stream")

const (
	renewTime = 10 * time.Second // for the renewal of a lock that was found
	wholeTime = 365 * 24 * time.Hour
)

// call is one acquire that is under way. It implements [member] and [receiver]. The goroutine of
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

// acquire implements [acquire.Driver.Acquire]; see [ErrAbsent].
func (s *stream) acquire(ctx context.Context, r *acquire.Request) (*acquire.Grant, error) {
	_, mark, _ := wire.CutMark(r.Creator)
	c := &call{
		stream: s, r: r, names: slices.Concat(r.Any, r.All), mark: mark,
		signal: make(chan struct{}, 1), began: time.Now(),
	}
	if c.names == nil {
		c.name[0] = r.Name
		c.names = c.name[:]
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < 2*followAfter {
		c.follow = r.Wait // its error will say who holds the lock
	}
	var err error
	if c.heard, err = r.Silence.Since(r.Since, r.Patience); err != nil {
		return nil, c.silent(err)
	}
	s.mu.Lock()
	if s.away || s.closed {
		s.need()
		s.mu.Unlock()
		return nil, absence(r)
	}
	if ctx.Err() != nil {
		s.mu.Unlock()
		return nil, c.giveUp(ctx)
	}
	l := s.join(c)
	s.mu.Unlock()
	if l != nil {
		l.flush()
	}
	return c.wait(ctx)
}

// absence returns the error of a request for which there is no stream, or none that has what it
// asks for.
func absence(r *acquire.Request) error {
	if r.All != nil {
		return acquire.ErrApart
	}
	return ErrAbsent
}

// wait handles what happens to the call until it ends.
func (c *call) wait(ctx context.Context) (*acquire.Grant, error) {
	open := c.tasks.Open()
	timer := time.NewTimer(c.due())
	defer timer.Stop()
	for {
		select {
		case <-c.signal:
		case <-ctx.Done():
			return nil, c.giveUp(ctx)
		case <-open.Done():
			return nil, c.giveUp(open)
		case <-timer.C:
			if err := c.overdue(); err != nil {
				return nil, err
			}
			timer.Reset(c.due())
			continue
		}
		g, err := c.handle(ctx)
		if g != nil || err != nil {
			return g, err
		}
	}
}

// due returns the time until overdue is to be called.
func (c *call) due() time.Duration {
	due := wholeTime
	if c.r.Patience > 0 {
		due = c.left()
	}
	if c.r.Wait && !c.follow {
		due = min(due, followAfter-time.Since(c.began))
	}
	return due
}

// overdue asks for the place of a call that has waited for a while, and ends a call whose server
// has said nothing for too long.
func (c *call) overdue() error {
	if c.r.Wait && !c.follow && time.Since(c.began) >= followAfter {
		c.startToFollow()
	}
	if c.r.Patience <= 0 || c.left() > 0 {
		return nil
	}
	c.mu.Lock()
	err := c.lastErr
	c.mu.Unlock()
	if err == nil {
		err = errors.New("no answer to the request")
	}
	if c.r.Wait {
		c.r.Silence.GaveUp(err)
	}
	return c.fail(c.silent(err))
}

// left returns how much is left of the patience, however long attempts to reach the server take. A
// call that does not wait is to be answered: that the server responds to pings is not enough.
func (c *call) left() time.Duration {
	if !c.r.Wait {
		return c.r.Patience - time.Since(c.began)
	}
	return c.r.Patience - c.silence()
}

// startToFollow asks the server to tell the place of the call, which is a further message. By what
// the server tells, the place outlasts the connection.
func (c *call) startToFollow() {
	c.mu.Lock()
	c.follow = true
	l := c.up()
	if l != nil && l == c.link && l.open[c.n] == receiver(c) {
		c.send(l)
	}
	c.mu.Unlock()
	if l != nil {
		l.flushInBackground() // the call may end meanwhile
	}
}

// handle handles what has happened. If it returns neither a grant nor an error, the call goes on.
func (c *call) handle(ctx context.Context) (*acquire.Grant, error) {
	c.mu.Lock()
	r := c.result
	c.result = result{}
	c.mu.Unlock()
	switch r.kind {
	case granted:
		return c.take(ctx, &r)
	case refused:
		return nil, c.refused(ctx, r.err)
	case final:
		return nil, c.fail(c.failure(r.err))
	case gone:
		err := absence(c.r)
		c.leave(err == acquire.ErrApart) // else another driver continues with the mark
		return nil, err
	case outage:
		return nil, c.outlast(&r)
	}
	return nil, nil
}

// take returns the grant of a lock. If it is not known since when its lease counts, or much of that
// is over, take renews the lock first. If that fails the call asks for the lock again.
func (c *call) take(ctx context.Context, r *result) (*acquire.Grant, error) {
	g := c.grant(&r.lock, r.since)
	for i := range r.more {
		g.More = append(g.More, c.grant(&r.more[i], r.since))
	}
	left := r.since.Add(min(g.Length, c.r.Lease)).Sub(c.clock.Now())
	if r.since.IsZero() || left < g.Length*2/3 { // too little to survive an outage of half of it
		c.mu.Lock()
		c.paused = true // a new connection must not ask for what is there already
		c.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, renewTime)
		defer cancel()
		for _, g := range append([]*acquire.Grant{g}, g.More...) {
			since := c.clock.Now()
			lock, err := c.renew(limited, g.Lock.ID, c.r.Lease, false)
			if err != nil {
				return nil, c.notRenewed(ctx, r, err)
			}
			g.Lock, g.Since = lock, since
			g.Length = min(lock.ExpiresAt.Sub(lock.UpdatedAt), wholeTime)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.members, c)
	c.users += 1 + len(g.More)
	return g, nil
}

func (c *call) grant(lock *api.Lock, since clock.Instant) *acquire.Grant {
	return &acquire.Grant{
		Lock: *lock, Since: since, Length: min(lock.ExpiresAt.Sub(lock.UpdatedAt), wholeTime),
		Creator: c.r.Creator, Values: c.r.Values, Log: c.r.Log, Pushed: true,
	}
}

// notRenewed handles locks that were found but could not all be renewed: they are asked for again.
func (c *call) notRenewed(ctx context.Context, r *result, err error) error {
	c.mu.Lock()
	c.forgetLocks(r)
	c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil // wait handles that
	case errors.Is(err, api.ErrGone):
		c.sendAgain()
		return nil
	}
	return c.refused(ctx, err)
}

// refused handles an error of the server. It returns nil if the call goes on: after a pause, or
// with another API key.
func (c *call) refused(ctx context.Context, err error) error {
	c.mu.Lock()
	c.lastErr, c.paused = err, true
	l, holder := c.link, c.holder
	c.mu.Unlock()
	switch {
	case errors.Is(err, api.ErrHeld) && !c.r.Wait:
		e, _ := errors.AsType[*api.Error](err)
		if e.Holder != nil {
			holder = e.Holder
		}
		return c.fail(&acquire.Failure{
			Text: "held by another lock", Errs: []error{api.ErrHeld}, Held: true, Holder: holder,
		})
	case refusesKey(err) && c.sockets.OtherKey(ctx, l.conn):
		l.cut(err) // the next connection uses that key
		c.resume()
		return nil
	case acquire.Refused(err):
		return c.fail(c.failure(err))
	}
	if c.retry == nil {
		c.retry = c.r.BackOff()
		c.retry.Reset()
	}
	pause := c.retry.NextBackOff() // not backOff: it is the server that says this
	stop := pause == backoff.Stop
	if e, ok := errors.AsType[*api.Error](err); ok {
		pause = max(pause, min(e.RetryAfter, maxRetryAfter))
	}
	if stop || c.r.Patience > 0 && pause > c.r.Patience-c.silence() {
		return c.fail(c.silent(err))
	}
	c.r.Log.Info("lock not acquired, retrying", "lock", c.r.Name, "in", pause, "error", err)
	open := c.tasks.Open()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		c.sendAgain()
	case <-ctx.Done(): // wait handles that
	case <-open.Done():
	}
	return nil
}

// resume ends a pause.
func (c *call) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = false
}

// sendAgain sends the call again, unless there is no connection.
func (c *call) sendAgain() {
	c.mu.Lock()
	c.paused = false
	l := c.up()
	if l == nil {
		c.need()
	} else if l.open[c.n] != receiver(c) {
		c.send(l)
	}
	c.mu.Unlock()
	if l != nil {
		l.flushInBackground()
	}
}

// silence returns for how long the server has said nothing at all, or the call has waited.
func (c *call) silence() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream.heard.After(c.heard) {
		c.heard = c.stream.heard
	}
	return time.Since(c.heard)
}

// outlast handles an outage. It returns an error if that has lasted for too long.
func (c *call) outlast(r *result) error {
	c.r.Log.Info("lock not acquired, retrying", "lock", c.r.Name, "in", r.pause, "error", r.err)
	silence := c.silence()
	if c.r.Patience > 0 {
		if silence+r.pause <= c.r.Patience {
			return nil
		}
		c.r.Silence.GaveUp(r.err)
		return c.fail(c.silent(r.err))
	}
	if time.Now().Before(c.next) {
		return nil
	}
	pause := c.backOff()
	if pause == backoff.Stop {
		return c.fail(c.silent(r.err))
	}
	c.next = c.counted.Add(pause)
	return nil
}

// backOff returns the next pause of the request's policy, which begins anew once the server has
// said anything.
func (c *call) backOff() time.Duration {
	if c.retry == nil || c.heard.After(c.counted) {
		c.retry = c.r.BackOff()
		c.retry.Reset()
	}
	c.counted = time.Now()
	return c.retry.NextBackOff()
}

// giveUp ends a call whose context has ended, or whose client closes.
func (c *call) giveUp(ctx context.Context) error {
	f := acquire.GaveUp(ctx, c.r.Since)
	c.mu.Lock()
	lastErr, isHeld, holder := c.lastErr, c.isHeld, c.holder
	asked := c.follow || c.link == nil
	c.mu.Unlock()
	switch base := c.client.BaseURL(); {
	case lastErr != nil:
		f.Errs = append(f.Errs, lastErr)
		f.Text += fmt.Sprintf("; %s last said: %v", base, lastErr)
	case isHeld:
		f.Held, f.Holder = true, holder
	case asked:
		f.Text += "; no answer from " + base
	}
	return c.fail(f)
}

// fail ends the call with err. What it may have acquired is cancelled in the background.
func (c *call) fail(err error) error {
	c.leave(true)
	return err
}

// leave ends the call. If it was ever sent and is to be cancelled, that is done in the background.
func (c *call) leave(cancel bool) {
	c.mu.Lock()
	delete(c.members, c)
	c.forgetLocks(&c.result)
	c.forgetRequests()
	var l *link
	if cancel && !c.r.Sent.IsZero() && !c.ended {
		l = (&orphan{stream: c.stream, r: c.r, mark: c.mark}).start()
	}
	c.mu.Unlock()
	if l != nil {
		l.flushInBackground() // a write may take long
	}
}

// failure returns the error for a request that no later attempt would change.
func (c *call) failure(err error) error {
	return &acquire.Failure{
		Text: fmt.Sprintf("not acquired from %s: %v", c.client.BaseURL(), err), Errs: []error{err},
	}
}

// silent returns the error for a backend that has said nothing for too long; err is the last
// failure.
func (c *call) silent(err error) error {
	return &acquire.Failure{
		Text: fmt.Sprintf("gave up after %v without an answer from %s that says who holds it: %v",
			c.silence().Round(time.Millisecond), c.client.BaseURL(), err),
		Errs: []error{err},
	}
}

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
	for i := range m.Locks {
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

// tell has the caller's goroutine handle r.
func (c *call) tell(r result) {
	c.result = r
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

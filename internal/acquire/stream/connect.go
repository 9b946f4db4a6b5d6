package stream

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	helloTime = 5 * time.Second
	idleTime  = 30 * time.Second // then a connection that nothing needs is closed

	healthyTime = time.Second // a connection that lasted as long is retried immediately
	maxNonsense = 3           // connections in succession that end with nonsense

	plainTime = 10 * time.Second // of answers to plain requests while no stream comes up
	absentMin = 5 * time.Second  // until an absent stream is tried again
	absentMax = 10 * time.Minute
)

// noLock is an id that no lock has: a request about it is the cheapest that only the backend itself
// responds to.
const noLock = "00000000-0000-0000-0000-000000000000"

var errIdle = errors.New("the connection is not needed")

// join adds d to the durable requests and sends it, now or as soon as there is a connection. The
// caller holds s.mu, and calls flush of the link that join returns, if any.
func (s *stream) join(d durable) *link {
	s.order++
	s.durables[d] = s.order
	l := s.up()
	if l == nil {
		s.need()
		return nil
	}
	d.send(l)
	if period := pingTime(d.lease()); period < l.period {
		l.period = period
		l.tick.Reset(period)
	}
	return l
}

// use counts a user: a grant, or an acquire over another driver. The caller holds s.mu.
func (s *stream) use() {
	s.users++
	s.need()
}

// need has a connection opened. If there is no stream, it is tried again when that is due. The
// caller holds s.mu.
func (s *stream) need() {
	switch {
	case s.closed || s.up() != nil:
	case s.away && s.retry == nil && !s.retrying:
		s.retry = time.AfterFunc(time.Until(s.nextTry), s.tryAgain)
	case s.away:
	case s.running == nil:
		s.start()
	default:
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *stream) start() {
	s.running = make(chan struct{})
	go s.run(s.running)
}

// tryAgain looks whether there is a stream now.
func (s *stream) tryAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retry = nil
	if !s.closed && s.away && s.needed() && s.running == nil {
		s.retrying = true
		s.start()
	}
}

// run opens one connection after the other until nothing needs one.
func (s *stream) run(done chan struct{}) {
	defer close(done)
	for s.wanted() {
		began := time.Now()
		l, err := s.dial()
		if err != nil {
			s.mu.Lock()
			s.opened()
			s.mu.Unlock()
			s.failed(err)
			continue
		}
		s.begin(l)
		s.lostLink(l, s.serve(l), time.Since(began) >= healthyTime)
	}
}

// wanted reports whether run goes on.
func (s *stream) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	needed := s.needed()
	if needed && !s.closed && (!s.away || s.retrying) {
		s.opening = make(chan struct{})
		return true
	}
	s.running = nil
	if needed {
		s.need()
	}
	return false
}

// opened ends the wait of renewals for a connection. The caller holds s.mu.
func (s *stream) opened() {
	close(s.opening)
	s.opening = nil
}

// dial opens a connection and reads the server's hello.
func (s *stream) dial() (*link, error) {
	conn, err := s.sockets.Dial(s.ctx, wire.StreamPath, wire.StreamProtocol, wire.MaxAnswer)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(s.ctx, conn.Cut)
	late := time.AfterFunc(helloTime, conn.Cut)
	frame, err := conn.Read()
	stop()
	if !late.Stop() {
		if err == nil {
			s.discard(conn)
		}
		return nil, errNoHello
	}
	if err != nil {
		return nil, s.sockets.Failure(opOpen, err, true)
	}
	m, err := wire.ParseStreamMessage(frame)
	switch {
	case err == nil && m.Kind == wire.MessageHello:
		l := newLink(conn, s.clock, &s.mu)
		l.all = slices.Contains(m.Features, wire.FeatureAll)
		return l, nil
	case err == nil && m.Kind == wire.MessageError:
		err = s.sockets.Refusal(opOpen, false, &m.Err)
	default:
		err = errNoHello
	}
	s.discard(conn)
	return nil, err
}

const opOpen = "open the stream"

// begin makes l the connection, and sends all durable requests on it.
func (s *stream) begin(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.over = api.ErrClosed
		go l.conn.Cut()
	}
	s.link, s.had, s.plainSince = l, true, time.Time{}
	s.opened()
	l.lastSent = time.Now()
	s.heard = l.lastSent // the hello: it ends the silence of acquires of the other driver
	s.away, s.retrying, s.absenceOf = false, false, nil
	inOrder := func(a, b durable) int { return cmp.Compare(s.durables[a], s.durables[b]) }
	for _, d := range slices.SortedFunc(maps.Keys(s.durables), inOrder) {
		d.send(l)
	}
	for back := range s.backs {
		(*back)(acquire.ErrMoved)
	}
	for _, w := range s.watches {
		w.Check() // a deletion may have been missed; and the server tells those that have renewed
	}
	l.stopReading()
	l.ended = context.AfterFunc(s.tasks.Open(), l.interrupt)
	l.period = s.pingPeriod()
	l.tick = time.AfterFunc(l.period, func() { s.tick(l) })
}

// tick sends a ping if nothing else was sent, or nothing was heard. It ends a connection that
// nothing needs.
func (s *stream) tick(l *link) {
	s.mu.Lock()
	if l.over != nil {
		s.mu.Unlock()
		return
	}
	l.period = s.pingPeriod()
	quiet := time.Since(l.lastSent)
	silent := max(quiet, time.Since(s.heard))
	needed := s.needed()
	if !needed && quiet >= idleTime {
		l.over = errIdle
		s.mu.Unlock()
		l.conn.Close()
		return
	}
	wait := l.period
	if needed && silent < l.period {
		wait -= silent
	} else if needed {
		l.ping()
	}
	l.tick.Reset(wait)
	s.mu.Unlock()
	l.flush()
}

// lostLink ends the use of a connection that has ended.
func (s *stream) lostLink(l *link, err error, healthy bool) {
	s.mu.Lock()
	s.link = nil
	l.release(err)
	if healthy {
		s.tries, s.nonsense = 0, 0
	}
	if l.answered.IsZero() && l.over == errNoPong { // only the hello gets through
		if s.noStream++; s.noStream > 1 {
			s.leave(l.over)
			s.mu.Unlock()
			return
		}
	}
	pause := s.pause(nil)
	if _, ok := err.(nonsense); ok {
		s.nonsense++
	}
	for d := range s.durables {
		d.outage(l.over, pause, s.nonsense >= maxNonsense)
	}
	s.mu.Unlock()
	s.rest(pause)
}

// failed handles a connection that could not be opened, and pauses.
func (s *stream) failed(err error) {
	if s.ctx.Err() != nil {
		return
	}
	gone := absent(err)
	final := !gone && hopeless(err)
	if !gone && !final {
		s.probe()
	}
	s.mu.Lock()
	s.noStream++
	if !gone {
		s.noStream = 0
	}
	plain := !s.plainSince.IsZero() && time.Since(s.plainSince) >= plainTime
	if s.retrying || plain || gone && (!s.had || s.noStream > 1) {
		s.leave(err)
		s.mu.Unlock()
		return
	}
	pause := s.pause(err)
	if gone {
		pause = retryMax
	}
	for d := range s.durables {
		d.outage(err, pause, final)
	}
	s.mu.Unlock()
	s.rest(pause)
}

// leave records that there is no stream. The caller holds s.mu.
func (s *stream) leave(err error) {
	s.away, s.retrying, s.absenceOf = true, false, err
	s.awayFor = min(max(2*s.awayFor, absentMin), absentMax)
	s.nextTry = time.Now().Add(s.awayFor)
	s.plainSince, s.noStream, s.tries = time.Time{}, 0, 0
	for d := range s.durables {
		d.absent()
	}
}

// probe sends a plain request, if something waits that could use such requests instead.
func (s *stream) probe() {
	s.mu.Lock()
	waiting := len(s.durables) > 0
	s.mu.Unlock()
	if waiting {
		_, err := s.client.Get(s.ctx, noLock, api.Once())
		s.plain(err)
	}
}

// rest pauses. What needs the connection from now on ends a pause that is longer than retryMax.
func (s *stream) rest(d time.Duration) {
	select {
	case <-s.wake: // from before
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-s.ctx.Done():
			return
		case <-s.wake:
			if d > retryMax {
				return
			}
		}
	}
}

// close ends the stream for good.
func (s *stream) close() {
	s.mu.Lock()
	s.closed = true
	l, running := s.up(), s.running
	if l != nil {
		l.over = api.ErrClosed
	}
	if s.retry != nil {
		s.retry.Stop()
	}
	s.mu.Unlock()
	if l != nil {
		l.conn.Close()
	}
	s.cancel()
	if running != nil {
		<-running
	}
}

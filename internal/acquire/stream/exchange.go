package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	usualTime   = 5 * time.Second // of an attempt without a deadline
	releaseTime = 3 * time.Second // until a release without an answer goes over HTTP
)

// exchange is a request about one lock that waits for its only answer. It implements [receiver].
type exchange struct {
	*stream
	verb, id string
	kind     wire.MessageKind // of the answer; else it is an error
	link     *link
	n        uint64
	asked    time.Time

	overdue bool // the link has not answered a request in its time, and has been silent since

	leads bool // the caller reads the answer; see link.lead

	done chan struct{} // closed when the following are set
	lock api.Lock
	err  error
}

// ask sends a request about one lock. It returns nil if there is no connection. The caller calls
// flush of the link, and forget. With lead set it calls [stream.lead] as well, where x.leads is
// set.
func (s *stream) ask(verb string, r *wire.StreamRequest, answer wire.MessageKind, lead bool,
) *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.up()
	if l == nil {
		return nil
	}
	x := &exchange{
		stream: s, verb: verb, id: r.ID, kind: answer, link: l, asked: time.Now(),
		done: make(chan struct{}), leads: lead && l.lead(),
	}
	x.n, x.overdue = l.request(r, x), l.overdue
	return x
}

// silent returns 0 if the link has been silent for d, or x for twice as long, else the time until
// that may be so. While other messages come, the server is only slow, and the answer to x will
// come, too. For a retry the time before x counts. After silent has returned 0, the next requests
// do not wait for the link.
func (x *exchange) silent(d time.Duration, retry bool) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	since := x.heard
	if !retry && x.asked.After(since) {
		since = x.asked
	}
	left := min(d-time.Since(since), 2*d-time.Since(x.asked))
	if x.overdue || left <= 0 {
		x.overdue, x.link.overdue = true, true
		return 0
	}
	return left
}

func (x *exchange) receive(_ *link, m *wire.StreamMessage) (last bool, err error) {
	switch {
	case m.Kind == wire.MessageError:
		x.err = x.sockets.Refusal(x.op(), true, &m.Err)
	case m.Kind != x.kind || m.Kind == wire.MessageLock && m.Lock.ID != x.id:
		return false, errWrongKind
	case m.Kind == wire.MessageLock:
		x.lock = lockOf(&m.Lock)
	}
	close(x.done)
	return true, nil
}

func (x *exchange) lost(err error) {
	x.err = x.sockets.Failure(x.op(), err, x.n > x.link.written)
	close(x.done)
}

// op describes the request in an error.
func (x *exchange) op() string { return x.verb + " lock " + x.id }

// forget ends the wait for the answer.
func (x *exchange) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.link.open, x.n)
}

// renew makes one attempt to renew a lock: over the stream, and over HTTP as well where that is
// down, or silent for a third of the time, or does not answer in two thirds. A stream that is being
// opened may take a third, too.
func (s *stream) renew(ctx context.Context, id string, lease time.Duration, retry bool,
) (api.Lock, error) {
	third := usualTime / 3
	if end, ok := ctx.Deadline(); ok {
		third = time.Until(end) / 3
	}
	timer := time.NewTimer(third)
	defer timer.Stop()
	s.awaitOpening(ctx, timer)
	x := s.ask("keep alive",
		&wire.StreamRequest{Kind: wire.RequestRenew, ID: id, Lease: lease}, wire.MessageLock, false)
	if x == nil {
		return s.renewPlainly(ctx, id, lease, retry)
	}
	defer x.forget()
	x.link.flushInBackground()
	for left := x.silent(third, retry); left > 0; left = x.silent(third, retry) {
		timer.Reset(left)
		select {
		case <-x.done:
			if x.decides() || !retry && x.isUnavailable() {
				return x.lock, x.err
			}
			return x.orPlainly(ctx, lease, retry)
		case <-timer.C:
		case <-ctx.Done():
			return api.Lock{}, s.sockets.Failure(x.op(), context.Cause(ctx), false)
		}
	}
	return x.orPlainly(ctx, lease, retry)
}

// awaitOpening waits while a connection is being opened, which costs less than one for each
// renewal, until ctx or the timer ends.
func (s *stream) awaitOpening(ctx context.Context, timer *time.Timer) {
	s.mu.Lock()
	opening := s.opening
	s.mu.Unlock()
	if opening == nil {
		return
	}
	select {
	case <-opening:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// orPlainly sends the renewal over HTTP as well. The first answer counts.
func (x *exchange) orPlainly(ctx context.Context, lease time.Duration, retry bool,
) (api.Lock, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plain := exchange{done: make(chan struct{})}
	go func() {
		// Where the stream is silent, the other connections that are kept may be dead as well.
		plain.lock, plain.err = x.renewPlainly(ctx, x.id, lease, retry || x.overdue)
		close(plain.done)
	}()
	select {
	case <-x.done:
		if x.decides() {
			return x.lock, x.err
		}
		<-plain.done
	case <-plain.done:
	}
	if plain.decides() {
		return plain.lock, plain.err
	}
	select {
	case <-x.done:
	case <-ctx.Done():
		x.forget()
	}
	if x.answered() && x.decides() {
		return x.lock, x.err
	}
	if api.NoEffect(plain.err) { // but the one over the stream may have one
		plain.err = x.sockets.Failure(x.op(), plain.err, false)
	}
	return api.Lock{}, plain.err
}

func (x *exchange) answered() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// decides reports whether the answer counts, however another attempt ends. A refusal of the API key
// does not: HTTP asks for another one.
func (x *exchange) decides() bool {
	return x.err == nil || errors.Is(x.err, api.ErrGone) ||
		acquire.Refused(x.err) && !refusesKey(x.err)
}

// isUnavailable reports whether the server has responded that it cannot renew the lock for now. A
// server that is too busy must not get each request over HTTP as well, and immediately.
func (x *exchange) isUnavailable() bool {
	e, ok := errors.AsType[*api.Error](x.err)
	return ok && e.Status >= http.StatusInternalServerError
}

// refusesKey reports whether err is a refusal of the API key, or of what it may do.
func refusesKey(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

func (s *stream) renewPlainly(ctx context.Context, id string, lease time.Duration, retry bool,
) (api.Lock, error) {
	opts := []api.CallOption{api.Once()}
	if retry {
		opts = append(opts, api.FreshConn())
	}
	lock, err := s.client.KeepAlive(ctx, id, lease, opts...)
	s.plain(err)
	return lock, err
}

// release makes one attempt to release a lock over the stream. It reports whether that was
// possible.
func (s *stream) release(ctx context.Context, g *acquire.Grant) (tried bool, err error) {
	x := s.ask("delete",
		&wire.StreamRequest{Kind: wire.RequestRelease, ID: g.Lock.ID}, wire.MessageDone, true)
	if x == nil {
		return false, nil
	}
	defer x.forget()
	x.link.flush()
	late := s.clock.Alarm(x.isLate)
	defer late.Free()
	late.Set(releaseTime)
	if x.leads {
		s.lead(ctx, x.link, x.answered)
	}
	select {
	case <-x.done:
		if refusesKey(x.err) {
			return false, nil
		}
		return true, x.err
	case <-ctx.Done():
		return true, s.sockets.Failure(x.op(), context.Cause(ctx), false)
	}
}

// isLate ends the wait for the answer to a release. If the link has been silent since, the next
// requests do not wait for it.
func (x *exchange) isLate() {
	x.mu.Lock()
	if x.link.open[x.n] == receiver(x) { // which may still be written
		delete(x.link.open, x.n)
		x.link.overdue = x.link.overdue || !x.heard.After(x.asked)
		late := fmt.Errorf("no answer within %v", releaseTime)
		x.err = x.sockets.Failure(x.op(), late, false)
		close(x.done)
	}
	x.mu.Unlock()
	if x.leads {
		x.link.interrupt()
	}
}

package relukko

import (
	"context"
	"errors"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// Pool is any one of several locks on a Relukko backend, its members: benches that are alike, or
// licences 1 to N. Any number of goroutines may share a Pool, and each holds a member of its own.
// On our own backend, over the stream, a Lock waits in the queues of all members, and gets the
// first that comes free; it is served in its turn beside Mutexes of the same names, and beside
// other Pools that have some of its members. Create a Pool with [NewPool]; Lock of the zero Pool
// fails. A Pool is safe for concurrent use.
type Pool struct {
	target

	mu     sync.Mutex
	inside map[*Session]bool                     // those between Lock and Unlock; true: it is lost
	asking map[*context.CancelCauseFunc]struct{} // ends requests that leave lost members out
}

// errUsable ends a request that has left out a member which is not lost any more.
var errUsable = errors.New("a member is usable again")

// NewPool returns a pool of the locks with these names: 1 to 100, without repetition, each valid
// for a [Mutex]. If several are free, Lock takes the first of them. It sends no request and never
// fails. If client is nil, or a name or an option is invalid, every Lock returns an error that says
// so; [WithHandoff] is invalid for a Pool.
func NewPool(client *api.Client, names []string, opts ...Option) *Pool {
	p := &Pool{
		target: target{name: listed(names, "or"), any: append([]string{}, names...)},
		inside: make(map[*Session]bool),
		asking: make(map[*context.CancelCauseFunc]struct{}),
	}
	p.target.init(client, opts)
	return p
}

// Lock blocks until the caller holds one of the locks. The [Session] that [FromContext] returns for
// held says which: [Session.Name]. Otherwise Lock behaves as [Mutex.Lock].
//
// A member that a goroutine of this Pool has lost is left out until that goroutine calls Unlock.
//
// On our own backend, names that the API key may not lock are left out, and Lock fails if none is
// left. On other backends, and where WebSockets do not pass, Lock tries all names one after the
// other, in random order, and then waits for the release of any of them; it fails when the backend
// has refused each name, and the error has all of the refusals.
func (p *Pool) Lock(ctx context.Context) (held context.Context, err error) {
	s, err := p.acquire(ctx, true)
	return result(ctx, s, err)
}

// TryLock is Lock, but does not wait for another holder: if all of the locks are held, it returns
// an error that [ErrLocked] matches, with the [*LockedError] of one of them.
func (p *Pool) TryLock(ctx context.Context) (held context.Context, err error) {
	s, err := p.acquire(ctx, false)
	return result(ctx, s, err)
}

func (p *Pool) acquire(ctx context.Context, wait bool) (*Session, error) {
	return p.begin(p.log, func(l *lease, r *report) (*Session, error) {
		return p.granted(ctx, l, wait, r)
	})
}

// granted acquires a member, for the lease l. Two goroutines must never share one: those that were
// lost are left out until the goroutine that has lost it calls Unlock. Then granted asks anew.
func (p *Pool) granted(ctx context.Context, l *lease, wait bool, r *report,
) (s *Session, err error) {
	var sent time.Time // of the first request: the next one does not lose its place
	for {
		within, end := context.WithCancelCause(ctx)
		ask := p.ask(ctx, wait, r, r.holderIs)
		names, lost := p.usable(&end)
		if ask.Any, ask.Sent = names, sent; len(names) > 0 {
			s, err = p.request(within, p, l, ask)
		} else {
			s, err = nil, p.awaitUnlock(within, wait, r, lost)
		}
		sent = ask.Sent
		changed := context.Cause(within) == errUsable
		p.forget(&end)
		switch {
		case err == nil && p.enter(s):
			return s, nil
		case err == nil:
			if l, err = p.instead(s.leases[0]); err != nil {
				return nil, err
			}
		case !changed:
			p.tasks.End(l)
			return nil, err
		}
	}
}

// usable returns the names of the members that are not lost. If others are, it returns the error
// for one of them, and Unlock calls end with errUsable, until forget, when it makes one usable.
func (p *Pool) usable(end *context.CancelCauseFunc) (names []string, lost *LockedError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	losses := make(map[string]error)
	for s, isLost := range p.inside {
		if err := s.leases.state(); isLost || err != nil {
			losses[s.Name()] = err
		}
	}
	if len(losses) == 0 {
		return p.any, nil
	}
	p.asking[end] = struct{}{}
	for _, name := range p.any {
		if err, isLost := losses[name]; isLost {
			lost = &LockedError{Name: name}
			lost.Lost, _ = errors.AsType[*LostError](err)
		} else {
			names = append(names, name)
		}
	}
	return names, lost
}

func (p *Pool) forget(end *context.CancelCauseFunc) {
	p.mu.Lock()
	delete(p.asking, end)
	p.mu.Unlock()
	(*end)(nil)
}

// awaitUnlock waits for the end of ctx if no member is usable. It returns the error for a Lock that
// does not wait any more.
func (p *Pool) awaitUnlock(ctx context.Context, wait bool, r *report, lost *LockedError) error {
	if !wait {
		return lost
	}
	r.begin()
	open, end := p.tasks.WhileOpen(ctx)
	defer end(nil)
	<-open.Done()
	f := acquire.GaveUp(open, r.since)
	return p.errorf(append(f.Errs, lost), "%s; %q: %s", f.Text, lost.Name, lost.who())
}

// enter records that s is inside. It reports false if another goroutine is in the same member,
// which the backend has just granted to s: so the other one has lost it.
func (p *Pool) enter(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other := range p.inside {
		if other.Name() == s.Name() && !p.client.Trusted() {
			p.inside[other] = true
			return false
		}
	}
	p.inside[s] = false
	return true
}

// instead gives back a lock that must not be used, and returns a lease for the next request.
func (p *Pool) instead(unused *lease) (*lease, error) {
	defer unused.discard()
	l := &lease{target: &p.target}
	if err := p.tasks.Continue(l); err != nil {
		return nil, p.errorf([]error{err}, "not acquired: %v", err)
	}
	return l, nil
}

// Unlock releases the lock to which held belongs: the context that Lock returned, or one that is
// derived from it. It returns what [Mutex.Unlock] returns, and [ErrNotLocked] for any other
// context.
func (p *Pool) Unlock(held context.Context) error {
	s, _ := held.Value(p).(*Session)
	p.mu.Lock()
	lost, ok := p.inside[s]
	delete(p.inside, s)
	if ok && (lost || s.leases.state() != nil) {
		for end := range p.asking {
			(*end)(errUsable)
		}
	}
	p.mu.Unlock()
	if !ok {
		return p.errorf([]error{ErrNotLocked}, "not held; "+
			"call Unlock once for each Lock that succeeded, with the context that it returned")
	}
	return s.leases.release(held)
}

// Do locks one of the members, calls f with the guarded context, and unlocks, as [Mutex.Do] does.
func (p *Pool) Do(ctx context.Context, f func(context.Context) error) error { return do(ctx, p, f) }

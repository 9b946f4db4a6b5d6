package relukko

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"gitlab.com/relukko/relukko-go/api"
)

// Pool is any one of several locks on a Relukko backend, its members: benches that are alike, or
// licences 1 to N. Any number of goroutines may each hold another member of one Pool. On our own
// backend, over the stream, a Lock waits in the queues of all members, and gets the first that
// comes free; it is served in its turn beside Mutexes of the same names, and beside other Pools
// that have some of its members. Create a Pool with [NewPool]; Lock of the zero Pool fails. A Pool
// is safe for concurrent use.
type Pool struct {
	target

	mu     sync.Mutex
	inside map[*Session]chan struct{} // those between Lock and Unlock; Unlock closes the channel
}

// NewPool returns a pool of the locks with these names: 1 to 100, without repetition, each valid
// for a [Mutex]. If several are free, Lock takes the first of them. It sends no request and never
// fails. If client is nil, or a name or an option is invalid, every Lock returns an error that says
// so. [WithHandoff] has no effect on a Pool.
func NewPool(client *api.Client, names []string, opts ...Option) *Pool {
	p := &Pool{
		target: target{name: poolName(names), any: append([]string{}, names...)},
		inside: make(map[*Session]chan struct{}),
	}
	p.target.init(client, opts)
	return p
}

// poolName returns what messages call a pool: a list of its names may be long.
func poolName(names []string) string {
	if last := len(names) - 1; last > 2 {
		return fmt.Sprintf("%s or %d others", names[0], last)
	}
	return strings.Join(names, ", ")
}

// Lock blocks until the caller holds one of the locks. The [Session] that [FromContext] returns for
// held says which: [Session.Name]. Otherwise Lock behaves as [Mutex.Lock].
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
	s, err := p.begin(p.log, func(l *lease, r *report) (*Session, error) {
		return p.request(ctx, p, l, wait, r, r.holderIs)
	})
	if err != nil {
		return nil, err
	}
	if err := p.enter(s, wait); err != nil {
		go s.leases[0].releaseUnused()
		return nil, err
	}
	return s, nil
}

// enter records that s is inside. If another goroutine has lost the same member, but has not called
// Unlock yet, enter waits for that first: two holders must never share a member.
func (p *Pool) enter(s *Session, wait bool) error {
	for {
		p.mu.Lock()
		other, left := p.occupant(s)
		if other == nil {
			p.inside[s] = make(chan struct{})
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		locked := &LockedError{Name: s.Name()}
		if locked.Lost, _ = errors.AsType[*LostError](other.Err()); !wait {
			return locked
		}
		select {
		case <-left:
		case <-s.guarded.Done():
			cause := context.Cause(s.guarded)
			return p.errorf([]error{cause, s.guarded.Err(), locked},
				"not acquired: %v; %q: %s", cause, locked.Name, locked.who())
		}
	}
}

// occupant returns the session of the same member that is inside, and the channel that its Unlock
// closes. The caller holds p.mu.
func (p *Pool) occupant(s *Session) (*Session, <-chan struct{}) {
	for other, left := range p.inside {
		if other.Name() == s.Name() && !p.client.Trusted() {
			return other, left
		}
	}
	return nil, nil
}

// Unlock releases the lock to which held belongs: the context that Lock returned, or one that is
// derived from it. It returns what [Mutex.Unlock] returns, and [ErrNotLocked] for any other
// context.
func (p *Pool) Unlock(held context.Context) error {
	s, _ := held.Value(p).(*Session)
	p.mu.Lock()
	left, ok := p.inside[s]
	delete(p.inside, s)
	p.mu.Unlock()
	if !ok {
		return p.errorf([]error{ErrNotLocked}, "not held; "+
			"call Unlock once for each Lock that succeeded, with the context that it returned")
	}
	close(left)
	return s.leases.release(held)
}

// Do locks one of the members, calls f with the guarded context, and unlocks, as [Mutex.Do] does.
func (p *Pool) Do(ctx context.Context, f func(context.Context) error) error { return do(ctx, p, f) }

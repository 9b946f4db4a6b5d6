package relukko

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/tasks"
)

const maxLease = 365 * 24 * time.Hour // that is counted

// lease is a lock on the backend and the time that it is ours. It counts that
// time so that it can only end early: from the instant before the last
// acknowledged request was sent, on the local clocks.
type lease struct {
	m       *Mutex
	hub     *hub
	task    *tasks.Task
	creator string          // with the mark
	stray   bool            // a create of this mark never got an answer and may still arrive
	values  context.Context // the caller's, for the values

	mu        sync.Mutex
	session   *Session      // nil while the lock is being handed on
	lock      api.Lock      // as last acknowledged
	began     time.Time     // when it was acquired
	handoffs  int           // since then
	length    time.Duration // of the lease as last granted
	deadline  instant       // when the lease ends
	latest    time.Time     // when it may end at the latest, should no renewal since have taken effect, or the last one
	limit     instant       // contexts end here at the latest; zero: no such limit
	timer     *time.Timer   // ends the contexts, from the first heartbeat on
	beat      *time.Timer   // starts the next heartbeat; nil in trust mode
	guarded   bool          // by the hub, from the first heartbeat on
	outOfTurn time.Time     // when the backend was last asked out of turn, or will be
	err       error         // nil while held
	lastErr   error         // of the renewals since the last acknowledged one

	// While a heartbeat is under way, else nil:
	cancel   context.CancelFunc // ends it
	poke     chan struct{}      // renew now, or once more: something may have happened to the lock
	breakOff context.CancelFunc // ends the attempt under way
}

// start begins to count. The first heartbeat, which is due well before the end,
// sets the timer that ends the contexts.
func (l *lease) start(lock api.Lock, sent instant, s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lock, l.session, l.began = lock, s, time.Now()
	if l.m.client.Trusted() {
		return
	}
	l.grant(sent, min(lock.ExpiresAt.Sub(lock.CreatedAt), maxLease))
	l.beat = time.AfterFunc(min(firstHeartbeat, l.m.ttl/3, max(l.left(), 0)/3), l.run)
}

// grant counts a lease of length from sent. The caller holds l.mu.
func (l *lease) grant(sent instant, length time.Duration) {
	l.length, l.deadline, l.limit = length, sent.add(length), instant{}
	l.latest = l.deadline.mono
}

// arm sets the timer to the end of the contexts. The caller holds l.mu.
func (l *lease) arm() {
	if l.timer == nil {
		l.timer = time.AfterFunc(l.left(), l.expire)
		return
	}
	l.timer.Reset(l.left())
}

// left is how long the contexts may still live: until a tenth of the lease
// before its end, so that the work has a little time to stop while it is still
// alone. The caller holds l.mu.
func (l *lease) left() time.Duration {
	now := l.hub.now()
	left := l.deadline.sub(now) - min(l.m.ttl, l.length)/10
	if l.limit != (instant{}) {
		left = min(left, l.limit.sub(now))
	}
	return left
}

// expire ends the lease when its time is up, by either clock.
func (l *lease) expire() {
	l.mu.Lock()
	if l.err != nil || l.beat == nil {
		l.mu.Unlock()
		return
	}
	if l.left() > 0 {
		if l.timer != nil {
			l.arm()
		}
		l.mu.Unlock()
		return
	}
	err := l.lastErr
	l.mu.Unlock()
	l.lose(LossUnreachable, err)
}

// lose ends a lease that is still held: first the contexts, then the rest.
func (l *lease) lose(reason LossReason, err error) {
	l.mu.Lock()
	loss := &LostError{Name: l.m.name, ID: l.lock.ID, Reason: reason, Deadline: l.deadline.mono, Err: err}
	s := l.session
	if !l.finish(loss) {
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	if s != nil {
		s.done(loss)
	}
	l.m.lost(loss)
	l.hub.unguard(l)
	l.task.Done()
}

// stop ends the lease for Unlock. It returns the error by which the lease had
// ended already, if it had. The lease's task goes on with the release.
func (l *lease) stop() error {
	l.expire()
	l.mu.Lock()
	s := l.session
	if !l.finish(ErrUnlocked) {
		loss := l.err
		l.mu.Unlock()
		if s != nil {
			s.done(loss) // who ended it may be about to
		}
		return loss
	}
	l.mu.Unlock()
	if s != nil {
		s.done(ErrUnlocked)
	}
	l.hub.unguard(l)
	return nil
}

// finish makes err the end, unless it has ended already. The caller holds l.mu.
func (l *lease) finish(err error) bool {
	if l.err != nil {
		return false
	}
	l.err = err
	if l.beat != nil {
		l.beat.Stop()
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.cancel != nil {
		l.cancel()
	}
	return true
}

func (l *lease) info() api.Lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lock
}

func (l *lease) end() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline.mono
}

// lastEnd is when the lease has ended for sure, whatever became of the renewals
// that were not acknowledged. A lock that was never renewed has 10 min.
func (l *lease) lastEnd() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

func (l *lease) state() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Describe and Abandon are for Client.Close.
func (l *lease) Describe() string {
	if l.state() != nil {
		return fmt.Sprintf("lock %q (%s): its release", l.m.name, l.info().ID)
	}
	return fmt.Sprintf("lock %q (%s): held", l.m.name, l.info().ID)
}

func (l *lease) Abandon() { l.lose(LossUnreachable, api.ErrClosed) }

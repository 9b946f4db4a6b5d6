package modelcheck_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// choice is which of its names a mutex locks.
type choice int

const (
	single choice = iota // there is only one
	anyOf                // it is a pool
	allOf                // it is a MultiMutex
)

// locker is a Mutex, a Pool or a MultiMutex.
type locker interface {
	Lock(ctx context.Context) (held context.Context, err error)
	TryLock(ctx context.Context) (held context.Context, err error)
	Unlock(held context.Context) error
}

// addSeveral makes pools and MultiMutexes of some of the mutexes.
func (p *plan) addSeveral() {
	d := dice{Rand: rand.New(rand.NewPCG(p.seed, 0x7365766572616c)), grid: p.grid}
	if d.one(3) {
		return
	}
	p.names = []string{"arm", "camera", "gripper"}[:max(len(p.names), pick(d, 2, 3, 3))]
	choices := [][]choice{{anyOf}, {allOf}, {single, anyOf, allOf}, {single, allOf}}[d.IntN(4)]
	for i := range p.clients {
		for j := range p.clients[i].mutexes {
			m := &p.clients[i].mutexes[j]
			if m.choice = pick(d, choices...); m.choice == single {
				m.names = []string{pick(d, p.names...)}
				continue
			}
			m.handoff, m.names = false, nil
			for _, k := range d.Perm(len(p.names))[:2+d.IntN(len(p.names)-1)] {
				m.names = append(m.names, p.names[k])
			}
		}
	}
	if p.together() && d.one(2) {
		p.addPartings(d)
	}
}

// addPartings adds faults that may leave some of several locks: the stream breaks, or the store
// takes its time, when they are created, and one of them is deleted then.
func (p *plan) addPartings(d dice) {
	for range 1 + d.IntN(4) {
		link := d.IntN(len(p.clients)+1) - 1
		at := min(max(pick(d, p.moments...), d.grid), p.horizon-2*time.Second)
		for_ := d.span(20*time.Millisecond, time.Second)
		if d.one(2) {
			p.faults = append(p.faults, fault{kind: "cut", link: link,
				requests: pick(d, ofCreate, ofAny), at: max(at-for_/2, d.grid),
				for_: for_ + p.latency})
		} else {
			p.faults = append(p.faults, fault{kind: "store", link: -1, at: at, for_: for_,
				delay: d.span(time.Millisecond, time.Second)})
		}
		p.faults = append(p.faults, fault{kind: "delete", link: -1, name: pick(d, p.names...),
			at: at + d.span(time.Millisecond, for_)})
	}
}

// together reports whether the backend creates several locks at one instant.
func (p *plan) together() bool {
	return p.stream && slices.ContainsFunc(p.clients, func(c clientPlan) bool {
		return slices.ContainsFunc(c.mutexes, func(m mutexPlan) bool { return m.choice == allOf })
	})
}

func (m *mutexPlan) locker(client *api.Client, opts []relukko.Option) locker {
	switch m.choice {
	case anyOf:
		return relukko.NewPool(client, m.names, opts...)
	case allOf:
		return relukko.NewMultiMutex(client, m.names, opts...)
	}
	return relukko.NewMutex(client, m.names[0], opts...)
}

func (m *mutexPlan) String() string {
	return strings.Join(m.names, map[choice]string{single: "", anyOf: "|", allOf: "&"}[m.choice])
}

// fits reports whether these are the locks that a call may get.
func (m *mutexPlan) fits(sessions []*session) bool {
	var names []string
	for _, s := range sessions {
		names = append(names, s.name)
	}
	if m.choice == anyOf {
		return len(names) == 1 && slices.Contains(m.names, names[0])
	}
	return slices.Equal(names, m.names)
}

// lost returns the loss of this lock, if it has ended the session.
func (s *session) lost() *relukko.LostError {
	var lost *relukko.LostError
	if !errors.As(s.cause, &lost) || s.choice == allOf && lost.ID != s.id {
		return nil
	}
	return lost
}

// endedBefore reports whether the session has ended with the loss of another lock.
func (s *session) endedBefore() bool {
	return errors.Is(s.cause, relukko.ErrLockLost) && s.lost() == nil
}

// own returns what an error of Unlock says of this lock.
func (s *session) own(err error) error {
	if s.choice != allOf || err == nil {
		return err
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		var lost *relukko.LostError
		var left *relukko.NotReleasedError
		switch {
		case errors.As(err, &lost) && lost.ID != s.id:
		case errors.As(err, &left) && left.ID != s.id:
		default:
			return err
		}
	}
	return nil
}

// with reports whether a lock is of the same tenure as a session.
func (w *world) with(s *session, id string) bool {
	return slices.ContainsFunc(w.sessions, func(other *session) bool {
		return other.tenure == s.tenure && other.id == id
	})
}

// span is a time between two moments.
type span struct{ from, to moment }

// common returns when two things were both so.
func common(a, b []span) (both []span) {
	for _, x := range a {
		for _, y := range b {
			from, to := x.from, x.to
			if from.before(y.from) {
				from = y.from
			}
			if y.to.before(to) {
				to = y.to
			}
			if from.before(to) {
				both = append(both, span{from, to})
			}
		}
	}
	return both
}

// reserved returns for how long names may be kept from a call, while they are free, for others that
// wait for all of several names: for 10 s, and twice as long after each lapse. One that waits for
// all itself may have to wait for a reservation of each of them. Plain requests of a pool that was
// served another name may have left a turn of 600 ms.
func (w *world) reserved(t *try, begin, end time.Duration) (longest time.Duration) {
	turns := time.Duration(0)
	for _, c := range w.plan.clients {
		for _, m := range c.mutexes {
			if m.choice == anyOf {
				turns += 600 * time.Millisecond
			}
		}
	}
	if !w.plan.stream {
		return turns
	}
	for _, other := range w.tries {
		open := min(end, other.ret.at) - max(begin, other.call.at)
		if other == t && t.choice != allOf || other.choice != allOf || other.try || open < 0 ||
			!slices.ContainsFunc(other.names, func(name string) bool {
				return slices.Contains(t.names, name)
			}) {
			continue
		}
		waited := max(begin-other.call.at, 0)
		if t.choice == allOf {
			waited += open
		}
		kept := min(open, waited+10*time.Second, 5*time.Minute)
		if t.choice == allOf || w.plan.servers > 1 {
			longest += kept
		} else {
			longest = max(longest, kept)
		}
	}
	return longest + turns
}

// checkSeveral checks that a pool has one lock for each call, and that a MultiMutex gets all locks
// at one instant, or none.
func (w *world) checkSeveral() {
	for _, s := range w.sessions {
		rec := w.locks[s.id]
		if s.choice == single || rec == nil {
			continue
		}
		for _, other := range w.order {
			if other == rec || other.mark != rec.mark {
				continue
			}
			if s.choice == anyOf && w.plan.stream && rec.meets(other) {
				w.wrong("%s has lock %s of %s, and also lock %s of %s", s.who, brief(s.id), s.name,
					brief(other.id), other.name)
			}
			if s.choice == allOf && w.with(s, other.id) && other.created.at != rec.created.at {
				w.wrong("%s got lock %s at %v and lock %s at %v", s.who, brief(s.id),
					rec.created.at, brief(other.id), other.created.at)
			}
		}
	}
}

// meets reports whether two locks existed at one instant.
func (l *lockRecord) meets(other *lockRecord) bool {
	return (l.removed == nil || other.created.before(l.removed.moment)) &&
		(other.removed == nil || l.created.before(other.removed.moment))
}

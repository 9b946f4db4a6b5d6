//go:build linux

package soak

import (
	"cmp"
	"fmt"
	"slices"
)

// verdict is what became of a soak.
type verdict struct {
	sections, losses                     int
	workersKilled, serversKilled         int
	pauses, darkenings, cuts, byHand     int
	written, refusals                    int
	overlaps, inPauses, afterHandDeletes int
	faults                               []string
}

func (v *verdict) String() string {
	return fmt.Sprintf("%d sections done, %d losses noticed; "+
		"%d workers and %d servers killed, %d pauses, %d darkenings, %d cuts, "+
		"%d locks deleted by hand; %d writes, %d refused by their tokens; "+
		"%d overlaps (beside %d in pauses, %d after a deletion by hand)",
		v.sections, v.losses, v.workersKilled, v.serversKilled, v.pauses, v.darkenings, v.cuts,
		v.byHand, v.written, v.refusals, v.overlaps, v.inPauses, v.afterHandDeletes)
}

// maxFaults are told; a thousand more of the same kind help nobody.
const maxFaults = 20

func (v *verdict) fault(format string, args ...any) {
	if len(v.faults) <= maxFaults {
		v.faults = append(v.faults, fmt.Sprintf(format, args...))
	}
}

// evidence is what is known of a soak beside what its workers have logged.
type evidence struct {
	standstills map[string][]span // by worker: it was stopped, or noticed that it did not run
	byHand      map[string]span   // by id: a deletion by hand that came between these
}

// stood reports whether a worker stood still at any time of s.
func (e *evidence) stood(worker string, s span) bool {
	return slices.ContainsFunc(e.standstills[worker], s.meets)
}

// stays judges the stays in one lock.
func (v *verdict) stays(stays []*stay, e *evidence) {
	v.tokens(stays)
	for _, s := range stays {
		hand, deleted := e.byHand[s.id]
		if s.refused != 0 && !(deleted && hand.from <= s.refused) {
			v.fault("a write of %v was refused, and at %v its session vouched for it", s, s.refused)
		}
		if s.reason == "deleted" && s.left > 0 && !deleted {
			v.fault("the backend had lost the lock of %v though its lease ran for another %v", s,
				s.left)
		}
		end := hand.to.add(s.ttl)
		if deleted && s.held.to > end &&
			(s.strict || !e.stood(s.worker, span{end.add(-s.ttl / 10), s.held.to})) {
			v.fault("%v goes on for more than a TTL after its lock was deleted at %v", s, hand.to)
		}
	}
	stays = slices.DeleteFunc(slices.Clone(stays), func(s *stay) bool { return s.held == span{} })
	slices.SortFunc(stays, func(a, b *stay) int { return cmp.Compare(a.held.from, b.held.from) })
	for i, a := range stays {
		for _, b := range stays[i+1:] {
			if b.held.from > a.held.to {
				break
			}
			v.overlap(a, b, e)
		}
	}
}

// overlap judges two stays that overlap. The one with the lower token should
// have been over.
func (v *verdict) overlap(a, b *stay, e *evidence) {
	if a.token > b.token {
		a, b = b, a
	}
	both := span{max(a.held.from, b.held.from), min(a.held.to, b.held.to)}
	hand, deleted := e.byHand[a.id]
	switch {
	case deleted && both.from >= hand.from:
		v.afterHandDeletes++
	case !a.strict && e.stood(a.worker, span{both.from.add(-a.ttl / 10), both.to}):
		v.inPauses++
	default:
		v.overlaps++
		v.fault("%v overlaps %v for %v", a, b, both.to-both.from)
	}
}

// tokens sees to it that the tokens of one lock are all different, and that a
// Lock that began after another had succeeded got the higher one.
func (v *verdict) tokens(stays []*stay) {
	owner := map[uint64]*stay{}
	for _, s := range stays {
		if other := owner[s.token]; other != nil {
			v.fault("%v and %v have the same token", other, s)
		}
		owner[s.token] = s
	}
	byEntry := slices.Clone(stays)
	slices.SortFunc(byEntry, func(a, b *stay) int { return cmp.Compare(a.entered, b.entered) })
	byAsking := slices.Clone(stays)
	slices.SortFunc(byAsking, func(a, b *stay) int { return cmp.Compare(a.asked, b.asked) })
	var highest *stay
	for _, s := range byAsking {
		for len(byEntry) > 0 && byEntry[0].entered < s.asked {
			if highest == nil || byEntry[0].token > highest.token {
				highest = byEntry[0]
			}
			byEntry = byEntry[1:]
		}
		if highest != nil && s.token < highest.token {
			v.fault("%v has a lower token than %v, who was there before", s, highest)
		}
	}
}

// writes judges what a register has logged.
func (v *verdict) writes(lock string, entries []entry) {
	var highest uint64
	for _, e := range entries {
		v.written++
		if !e.taken {
			v.refusals++
			continue
		}
		if e.token < highest {
			v.fault("the register of %s has taken token %d from %s at %v, after %d", lock, e.token,
				e.who, e.at, highest)
		}
		highest = max(highest, e.token)
	}
}

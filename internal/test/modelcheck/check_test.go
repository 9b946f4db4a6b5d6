package modelcheck_test

import (
	"errors"
	"time"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

const (
	releaseTime = 10 * time.Second // that Unlock takes at most
	listPause   = 50 * time.Millisecond
	// Until the first redial of a WebSocket that was dropped.
	reconnect = 160 * time.Millisecond
	tick      = time.Microsecond // of the backend's clock
)

// check checks what happened, once the run is over.
func (w *world) check() {
	for _, s := range w.sessions {
		rec := w.locks[s.id]
		if rec == nil || rec.name != s.name {
			w.wrong("%s holds lock %s of %s, which the backend never made", s.who, brief(s.id),
				s.name)
			continue
		}
		if !w.plan.replaced && w.plan.original && s.token != 0 ||
			w.ours() && s.token != rec.token {
			w.wrong("%s holds lock %s with token %d", s.who, brief(s.id), s.token)
		}
		if s.raw {
			continue
		}
		w.checkBackend(s, rec)
		w.checkLease(s, rec)
		w.checkTakenAway(s, rec)
		w.checkCause(s, rec)
		w.checkOutage(s, rec)
		w.checkUnlock(s, rec)
		w.checkGivenBack(s, rec)
	}
	for _, t := range w.tries {
		w.checkTry(t)
	}
	w.checkExclusion()
	w.checkSeveral()
	w.checkOrder()
	w.checkCancelled()
	w.checkWakeUps()
	w.checkCloses()
}

// ours reports whether the backend is ours all the time.
func (w *world) ours() bool { return !w.plan.replaced && !w.plan.original }

// left checks that no lock is left in the end that nothing will release.
func (w *world) left() {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := make(map[string]*session)
	for _, s := range w.sessions {
		held[s.id] = s
	}
	for _, rec := range w.order {
		// The end of a lock that expired is not watched.
		expired := rec.removed != nil && rec.removed.cause == swept && !rec.takenAway() &&
			held[rec.id] == nil && w.plan.horizon <= 2*time.Minute
		if rec.removed != nil && !expired || rec.mark == "" {
			continue
		}
		client := int(rec.creator[1] - '0')
		s := held[rec.id]
		switch {
		case w.gaveUp(client, s):
		case s == nil && !w.orphaned(client, rec):
			w.wrong("lock %s of %s is an orphan, made by %q", brief(rec.id), rec.name, rec.creator)
		case s != nil && !w.unreleased(client, s, rec):
			w.wrong("lock %s of %s, which %s has unlocked, is left", brief(rec.id), rec.name, s.who)
		}
	}
}

// gaveUp reports whether a client was closed before it could release a lock. The
// session is nil where a create had no answer.
func (w *world) gaveUp(client int, s *session) bool {
	for _, c := range w.closes {
		// A lost lock that is unlocked after Close is not released any more.
		late := s != nil && errors.Is(s.err, relukko.ErrLockLost) && c.call.before(s.unlock)
		if c.client == client && (c.err != nil || late) {
			return true
		}
	}
	return false
}

// orphaned reports whether a lock without a session may be left.
func (w *world) orphaned(client int, rec *lockRecord) bool {
	// A client whose deletes are refused cannot clean up, and a backend that does not
	// know the mark has said that nothing is left.
	// A lease may also end while the client, of a create that was disturbed, is not told of it:
	// that of the create, or that of a renewal of the lock that was found.
	const longest = 35 * time.Second // that a create is under way
	return w.refused(client, ofRelease, rec.created.at, never.at) ||
		w.plan.replaced && rec.unmarked ||
		(rec.leased || len(rec.leases) > 1) && rec.removed != nil &&
			!w.quiet(client, rec.created.at-longest, rec.removed.at)
}

// unreleased reports whether a lock may be left after its session has ended.
func (w *world) unreleased(client int, s *session, rec *lockRecord) bool {
	if errors.Is(s.err, relukko.ErrLockLost) {
		// The backend may have been out of reach for as long as the release is tried.
		if w.plan.horizon > 2*time.Minute {
			return true
		}
	} else if rec.leases[len(rec.leases)-1].expires <= time.Since(w.start) {
		return true // the release was tried for as long as the lease lasted
	}
	return w.refused(client, ofRelease, s.unlock.at, never.at)
}

// checkBackend checks that the lock was created within the call, and that of our
// own code only Unlock deletes it while it is held.
func (w *world) checkBackend(s *session, rec *lockRecord) {
	if rec.created.before(s.call) && !w.handedOn(s) || s.begin.before(rec.created) {
		w.wrong("%s got lock %s, which was not made by this call", s.who, brief(s.id))
	}
	if s.mark != rec.mark || len(s.mark) != 12 {
		w.wrong("%s got lock %s with mark %q, not %q", s.who, brief(s.id), rec.mark, s.mark)
	}
	if r := rec.removed; r != nil && r.before(s.end) && r.before(s.unlock) && !rec.takenAway() {
		w.wrong("lock %s was %s at %v while %s held it", brief(s.id), r.cause, r.at, s.who)
	}
}

// handedOn reports whether a session has got its lock from another goroutine.
func (w *world) handedOn(s *session) bool { return w.firstWith(s) != s }

// firstWith returns the first of the sessions between which the lock of one was handed on.
func (w *world) firstWith(s *session) *session {
	first := s
	for _, other := range w.sessions {
		if s.shared && other.id == s.id && other.mutex == s.mutex &&
			other.begin.before(first.begin) {
			first = other
		}
	}
	return first
}

// handsOn reports whether another goroutine has got a session's lock after it,
// or was to get it and gave up.
func (w *world) handsOn(s *session) bool {
	return s.shared && s.err == nil && s.unlock.at == s.unlocked.at
}

// refused reports whether the plan has refused requests of this kind in between.
func (w *world) refused(client int, requests string, from, to time.Duration) bool {
	for _, t := range w.troubles {
		if t.kind == "refusal" && t.requests == requests && t.disturbs(client) && t.from.at <= to &&
			t.to.at >= from {
			return true
		}
	}
	return false
}

// checkLease checks guarantee 1 against the backend's record: the contexts end
// before the lease does, and a tenth of it earlier.
func (w *world) checkLease(s *session, rec *lockRecord) {
	margin := min(s.ttl, time.Minute) / 10
	for i, lease := range rec.leases {
		if lease.by < 0 && i > 0 {
			continue // the plan's
		}
		until := s.end.at
		for _, next := range rec.leases[i+1:] {
			if next.by >= 0 {
				until = min(until, next.at)
				break
			}
		}
		if until <= s.begin.at {
			continue // renewed by the Lock that found it, before there was a session
		}
		if limit := lease.expires - margin + tick; until > limit {
			w.wrong("the lease that lock %s got at %v ends at %v: "+
				"the contexts of %s should have been done at %v, not at %v",
				brief(s.id), lease.at, lease.expires, s.who, limit, s.end.at)
			return
		}
	}
	w.checkDeadlines(s, rec)
}

// checkDeadlines checks that no session reports a later end of its lease than the
// backend's record has.
func (w *world) checkDeadlines(s *session, rec *lockRecord) {
	for _, d := range s.deadlines {
		for i, lease := range rec.leases {
			over := i+1 < len(rec.leases) && rec.leases[i+1].before(d.moment) ||
				rec.removed != nil && rec.removed.before(d.moment)
			if lease.before(d.moment) && !over && lease.by >= 0 && d.end > lease.expires+tick {
				w.wrong("%s says at %v that the lease of lock %s ends at %v, but it ends at %v",
					s.who, d.at, brief(s.id), d.end, lease.expires)
			}
		}
	}
}

// checkTakenAway checks guarantee 2: a lock that another client has deleted is known
// to be lost within a round trip of the broadcast, or at the next heartbeat.
func (w *world) checkTakenAway(s *session, rec *lockRecord) {
	if !rec.takenAway() {
		return
	}
	gone := *rec.removed
	if gone.before(s.begin) || !gone.before(s.end) || s.end.at == gone.at {
		return
	}
	l := w.plan.latency
	beat := min(s.ttl/3, 30*time.Second) + 2*l + time.Millisecond
	push := 5*l + listPause + 5*time.Millisecond
	if w.dropped(gone.at-30*time.Second, gone.at+push) > 0 {
		push += l + reconnect
	}
	switch {
	case w.deadConnections(s.client, gone.at):
	case w.pushed(s, rec, gone.at, push):
		if s.end.at > gone.at+push {
			w.wrong("lock %s was taken away at %v, and broadcast, "+
				"but the contexts of %s ended at %v",
				brief(s.id), gone.at, s.who, s.end.at)
		}
	case w.quiet(s.client, gone.at-s.ttl-12*time.Second, gone.at+beat):
		if s.end.at > gone.at+beat {
			w.wrong("lock %s was taken away at %v, the next heartbeat was due by %v, "+
				"but the contexts of %s ended at %v",
				brief(s.id), gone.at, gone.at+beat, s.who, s.end.at)
		}
	}
}

// pushed reports whether a holder must have a WebSocket that works, from at on
// for a while.
func (w *world) pushed(s *session, rec *lockRecord, at, for_ time.Duration) bool {
	if w.plan.mute || w.plan.clients[s.client].deaf {
		return false
	}
	listens := false
	for _, lease := range rec.leases[1:] { // also before Lock returns, if it has queued for long
		listens = listens || lease.by == s.client &&
			w.firstWith(s).begin.before(lease.moment) &&
			lease.at+w.plan.latency+time.Millisecond < at
	}
	return listens && w.connected(s.client, at, for_)
}

// connected reports whether a WebSocket that has been in use for long must be up.
func (w *world) connected(client int, at, for_ time.Duration) bool {
	for _, t := range w.troubles {
		if t.disturbs(client) && t.from.at <= at+for_ && t.to.at >= at-30*time.Second &&
			(t.kind != "drop sockets" || w.dropped(at-30*time.Second, at+for_) > 1) {
			return false
		}
	}
	if w.dropped(at-30*time.Second, at+for_) > 0 &&
		w.dropped(at-60*time.Second, at-30*time.Second) > 0 {
		return false // the pause grows
	}
	return w.quiet(client, at-100*time.Second, at+for_, "refuse sockets")
}

// dropped returns how often the WebSockets were dropped between two instants. After
// the first time they reconnect at once.
func (w *world) dropped(from, to time.Duration) int {
	n := 0
	for _, t := range w.troubles {
		if t.kind == "drop sockets" && t.from.at <= to && t.to.at >= from {
			n++
		}
	}
	return n
}

// checkCause checks guarantee 3.
func (w *world) checkCause(s *session, rec *lockRecord) {
	w.checkGuarded(s)
	w.checkTold(s)
	lost, isLost := errors.AsType[*relukko.LostError](s.cause)
	if isLost {
		w.checkLoss(s, rec, lost)
		return
	}
	switch {
	case s.cause != relukko.ErrUnlocked:
		w.wrong("%s: the session's cause is %v", s.who, s.cause)
	case s.end.at != s.unlock.at:
		w.wrong("%s: unlocked at %v, the context ended at %v", s.who, s.unlock.at, s.end.at)
	}
}

// checkLoss checks the loss that has ended a session.
func (w *world) checkLoss(s *session, rec *lockRecord, lost *relukko.LostError) {
	switch {
	case lost.ID != s.id && w.with(s, lost.ID): // of another lock of the MultiMutex
	case lost.Name != s.name || lost.ID != s.id:
		w.wrong("%s: the loss is of another lock than %s: %v", s.who, s.id, lost)
	case lost.Reason == relukko.LossDeleted &&
		(rec.removed == nil || s.end.before(rec.removed.moment)):
		w.wrong("%s: lock %s is said to be deleted at %v, and was not: %v", s.who, brief(s.id),
			s.end.at, lost)
	case lost.Reason == relukko.LossRefused &&
		!w.refused(s.client, ofRenew, s.end.at-w.plan.latency, s.end.at):
		w.wrong("%s: nothing was refused: %v", s.who, lost)
	}
}

// checkGuarded checks the end and the cause of a guarded context.
func (w *world) checkGuarded(s *session) {
	if first := min(s.end.at, s.parentEnd.at); s.guardedEnd.at != first {
		w.wrong("%s: the guarded context ended at %v, not at %v", s.who, s.guardedEnd.at, first)
	}
	switch {
	case s.parentEnd.at == s.end.at:
	case s.parentEnd.at < s.end.at && s.guardedCause != s.parentCause, s.parentEnd.at > s.end.at &&
		s.guardedCause != s.cause:
		w.wrong("%s: the guarded context's cause is %v; the parent's is %v, the session's %v",
			s.who, s.guardedCause, s.parentCause, s.cause)
	}
}

// checkTold checks that WithOnLost's function is called once for a loss.
func (w *world) checkTold(s *session) {
	told := 0
	if s.lost() != nil || errors.Is(s.err, relukko.ErrLockLost) {
		told = 1
	}
	if s.shared && told == 0 {
		told = w.told[s.id] // another goroutine's
	}
	if w.told[s.id] != told || told > 1 {
		w.wrong("%s: WithOnLost's function was told %d times of lock %s, not %d", s.who,
			w.told[s.id], brief(s.id), told)
	}
}

// checkOutage checks the other half of guarantee 1: from the first heartbeat on an
// outage shorter than half the TTL loses nothing.
func (w *world) checkOutage(s *session, rec *lockRecord) {
	lost := s.lost()
	if lost == nil || lost.Reason != relukko.LossUnreachable {
		return
	}
	for _, c := range w.closes {
		if c.client == s.client && !s.end.before(c.call) && s.end.at >= c.call.at+c.patience {
			return // abandoned
		}
	}
	if w.plan.latency > s.ttl/30 || w.deadConnections(s.client, s.end.at) || len(rec.leases) < 2 {
		return
	}
	from, to := w.lastOutage(s)
	if beat := rec.leases[1].at; beat+w.plan.latency >= from && to > 0 {
		return // before the first heartbeat was acknowledged
	}
	if to-from < s.ttl/2-3*w.plan.latency-time.Millisecond {
		w.wrong("%s lost lock %s at %v, TTL %v, after an outage from %v to %v only: %v", s.who,
			brief(s.id), s.end.at, s.ttl, from, to, lost)
	}
}

// lastOutage returns when the faults before the end of a session began and ended.
func (w *world) lastOutage(s *session) (from, to time.Duration) {
	from = s.end.at
	for _, t := range w.troubles {
		if t.disturbs(s.client) && t.from.at <= s.end.at && t.to.at >= s.end.at-2*s.ttl {
			from, to = min(from, t.from.at), max(to, min(t.to.at, s.end.at))
		}
	}
	return from, to
}

// checkUnlock checks guarantee 5.
func (w *world) checkUnlock(s *session, rec *lockRecord) {
	took := s.unlocked.at - s.unlock.at
	lostBefore := s.lost() != nil
	switch {
	case s.unlocked == never:
		w.wrong("%s: Unlock of lock %s has not returned", s.who, brief(s.id))
	case lostBefore && (!errors.Is(s.err, s.cause) || took > 0 && s.choice != allOf):
		w.wrong("%s: Unlock of lost lock %s returned %v after %v", s.who, brief(s.id), s.err, took)
	case lostBefore:
	case w.handsOn(s):
	case s.err == nil:
		w.checkReleased(s, rec)
	default:
		w.checkUndisturbed(s, rec)
		w.checkUnlockError(s, rec)
	}
	if took > releaseTime {
		w.wrong("%s: Unlock took %v", s.who, took)
	}
}

// checkReleased checks that a lock was released when its Unlock has returned nil.
func (w *world) checkReleased(s *session, rec *lockRecord) {
	switch r := rec.removed; {
	case r == nil || s.unlocked.before(r.moment):
		w.wrong("%s: Unlock returned nil, but lock %s was not released", s.who, brief(s.id))
	case r.before(s.unlock) && !w.ambiguousRelease(s):
		w.wrong("%s: Unlock returned nil, but lock %s was %s at %v", s.who, brief(s.id),
			r.cause, r.at)
	}
}

// checkUndisturbed checks that something was wrong when an Unlock has failed.
func (w *world) checkUndisturbed(s *session, rec *lockRecord) {
	if !s.endedBefore() && !errors.Is(s.err, api.ErrClosed) && rec.removed != nil &&
		!rec.takenAway() && w.quiet(s.client, s.unlock.at-s.ttl, s.unlocked.at) {
		w.wrong("%s: Unlock returned %v, nothing being wrong", s.who, s.err)
	}
}

// checkUnlockError checks the error of the Unlock of a lock that was not known to be
// lost.
func (w *world) checkUnlockError(s *session, rec *lockRecord) {
	switch {
	case errors.Is(s.err, relukko.ErrLockLost):
		r := rec.removed
		lost, _ := errors.AsType[*relukko.LostError](s.err)
		if s.endedBefore() || s.choice == allOf && lost.Reason != relukko.LossDeleted {
			return // it was lost after the session had ended, with another lock or in Unlock
		}
		if r == nil || s.unlocked.before(r.moment) || r.cause == released {
			w.wrong("%s: Unlock says that lock %s was lost, but it was not: %v", s.who, brief(s.id),
				s.err)
		}
	case errors.Is(s.err, relukko.ErrNotReleased):
		took := s.unlocked.at - s.unlock.at
		refused := errors.Is(s.err, api.ErrRefused) &&
			w.refused(s.client, ofRelease, s.unlock.at, s.unlocked.at)
		if took < releaseTime && !errors.Is(s.err, api.ErrClosed) && !refused {
			w.wrong("%s: Unlock gave up after %v: %v", s.who, took, s.err)
		}
	default:
		w.wrong("%s: Unlock returned %v", s.who, s.err)
	}
}

// checkGivenBack checks that a lock that was lost, but that the backend still has,
// is deleted after Unlock, not only when it expires.
func (w *world) checkGivenBack(s *session, rec *lockRecord) {
	const most = 15 * time.Second
	lost := s.lost()
	if lost == nil || lost.Reason == relukko.LossDeleted ||
		w.plan.clients[s.client].closeAt > 0 || s.shared {
		return
	}
	if w.quiet(s.client, s.unlock.at, s.unlock.at+most) &&
		(rec.removed == nil || rec.removed.at > s.unlock.at+most) {
		w.wrong("%s: lost lock %s was unlocked at %v and not given back", s.who, brief(s.id),
			s.unlock.at)
	}
}

// ambiguousRelease reports whether a release of the session's lock has an unknown outcome: then a
// later "gone" may mean that it was carried out. So may that of a release for which net/http took a
// second connection: the client cannot know that a transport that was given wrote nothing to the
// first one.
func (w *world) ambiguousRelease(s *session) bool {
	for _, x := range w.exchange {
		if x.what == ofRelease && x.id == s.id && s.unlock.before(x.call) &&
			(!x.understood() || x.conns > 1 || w.tooLate(x)) {
			return true
		}
	}
	return false
}

// tooLate reports whether a release over the stream was answered when its client, which waits for
// 3 s, had given it up.
func (w *world) tooLate(x *exchange) bool {
	const releaseTime = 3 * time.Second
	return x.method == "stream" && x.ret.at-x.call.at >= releaseTime
}

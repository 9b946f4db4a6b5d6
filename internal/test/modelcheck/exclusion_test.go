package modelcheck_test

import (
	"slices"
	"time"
)

// checkExclusion checks what the mutex is for: no two sessions of a name are live
// at one instant, unless the earlier one's lock was taken away before the later
// one's was created. checkTakenAway checks how long that may last.
func (w *world) checkExclusion() {
	for _, o := range w.overlaps {
		if o.earlier.mutex == o.later.mutex {
			w.wrong("%s and %s, of one mutex, are both inside at %v", o.earlier.who, o.later.who,
				o.at.at)
		}
		earlier, later := w.locks[o.earlier.id], w.locks[o.later.id]
		if earlier == nil || later == nil {
			continue // which was reported
		}
		if later.created.before(earlier.created) {
			earlier, later = later, earlier // whose reply took longer
		}
		if earlier.takenAway() && earlier.removed.before(later.created) {
			continue
		}
		w.wrong("%s and %s are both inside %s at %v, with locks %s and %s", o.earlier.who,
			o.later.who, o.later.name, o.at.at,
			brief(o.earlier.id), brief(o.later.id))
	}
}

// checkOrder checks that fencing tokens rise, and that goroutines that share a mutex
// get it one at a time, in the order in which they came (guarantee 8).
func (w *world) checkOrder() {
	for i, a := range w.sessions {
		for _, b := range w.sessions[i+1:] {
			if a.mutex == b.mutex && a.name == b.name && !a.raw && b.begin.before(a.unlock) {
				w.wrong("%s enters a mutex in which %s is", b.who, a.who)
			}
			if a.name == b.name && a.id != b.id && a.end.before(b.call) {
				w.checkTokens(a, b)
			}
		}
	}
	w.checkTurns()
}

// checkTurns checks that goroutines get a mutex in the order of their calls of Lock.
func (w *world) checkTurns() {
	var locks []*try
	for _, t := range w.tries {
		if !t.try && t.session != nil && t.choice != anyOf {
			locks = append(locks, t)
		}
	}
	for _, a := range locks {
		for _, b := range locks {
			if a.mutex == b.mutex && a.call.at < b.call.at && b.ret.before(a.ret) {
				w.wrong("%s, which called at %v, was served before %s, which called at %v", b.who,
					b.call.at, a.who, a.call.at)
			}
		}
	}
}

// checkTokens checks that the token of a later lock is larger.
func (w *world) checkTokens(a, b *session) {
	// A lock that is handed on may be deleted already, without an event yet.
	rec := w.locks[b.id]
	stale := b.shared && rec != nil && rec.takenAway() && rec.removed.before(b.begin)
	if !stale && a.token >= b.token && w.ours() {
		w.wrong("token %d of %s is followed by token %d of %s", a.token, a.who, b.token, b.who)
	}
}

// checkCancelled checks that no lock is created for a cancelled mark.
func (w *world) checkCancelled() {
	if !w.ours() {
		return // a mark that comes while nobody knows of marks is none
	}
	for _, off := range w.cancelled {
		for _, rec := range w.order {
			if rec.mark == off.mark && off.before(rec.created) &&
				rec.created.at-off.at < 10*time.Minute && !w.restarted(off.at, rec.created.at) {
				w.wrong("lock %s of mark %s was made at %v though that was cancelled at %v",
					brief(rec.id), rec.mark, rec.created.at, off.at)
			}
		}
	}
}

// restarted reports whether the backend has forgotten everything in between.
func (w *world) restarted(from, to time.Duration) bool {
	for _, m := range w.losses {
		if from <= m.at && m.at <= to {
			return true
		}
	}
	return false
}

// checkWakeUps checks guarantee 7: no waiter waits for a free name for longer than
// an event, or a poll, takes.
func (w *world) checkWakeUps() {
	free := w.free()
	for _, t := range w.tries {
		switch {
		case t.try:
		case t.choice == allOf:
			all := free[t.names[0]]
			for _, name := range t.names[1:] {
				all = common(all, free[name])
			}
			w.checkFree(t, t.names, all)
		default:
			for _, name := range t.names {
				w.checkFree(t, []string{name}, free[name])
			}
		}
	}
}

// free returns when each name was free.
func (w *world) free() map[string][]span {
	all := make(map[string][]span)
	since := make(map[string]moment)
	for _, name := range w.plan.names {
		since[name] = moment{}
	}
	for _, rec := range w.order {
		if from, ok := since[rec.name]; ok {
			all[rec.name] = append(all[rec.name], span{from, rec.created})
		}
		delete(since, rec.name)
		if rec.removed != nil {
			since[rec.name] = rec.removed.moment
		}
	}
	for name, from := range since {
		all[name] = append(all[name], span{from, moment{w.seq, time.Since(w.start)}})
	}
	return all
}

// checkFree checks that a call did not wait for names while they were free for long.
func (w *world) checkFree(t *try, names []string, free []span) {
	for _, f := range free {
		if t.ret.before(f.from) || f.to.before(t.call) {
			continue
		}
		begin, end := w.waits(t, names, max(f.from.at, t.call.at), min(f.to.at, t.ret.at))
		l := w.plan.latency
		push := 5*l + reconnect + time.Second
		poll := 4*l + 5*time.Second + 10*time.Millisecond
		most := poll
		if !w.plan.mute && !w.plan.clients[t.client].deaf && w.connected(t.client, begin, push) {
			most = push
		}
		most += w.reserved(t, begin, end)
		if end-begin > most && w.quiet(t.client, begin-70*time.Second, begin+most) &&
			!w.deadConnections(t.client, begin) {
			w.wrong("%s waits for %v from %v to %v, which is free", t.who, names, begin, end)
		}
	}
}

// waits returns the part of a span in which a call waits for the backend.
func (w *world) waits(t *try, names []string, begin, end time.Duration) (from, to time.Duration) {
	for _, s := range w.sessions {
		// A goroutine waits for another one here; that of a pool where the other has lost the
		// member.
		if s.mutex == t.mutex && s.begin.at <= end && s.unlocked.at >= begin &&
			(t.choice != anyOf || s.lost() != nil && slices.Contains(names, s.name)) {
			begin = s.unlocked.at
		}
	}
	for _, c := range w.closes {
		if c.client == t.client {
			end = min(end, c.call.at)
		}
	}
	return begin, end
}

// checkCloses checks that a client that is closed after all faults leaves nothing.
func (w *world) checkCloses() {
	for _, c := range w.closes {
		// A WebSocket waits a quarter of a second for the reply to its close frame, which comes
		// after what is under way.
		took := c.ret.at - c.call.at
		if took > c.patience+250*time.Millisecond+w.plan.latency {
			w.wrong("closing c%d took %v, not %v at most", c.client, took, c.patience)
		} else if c.patience == closeTime && (c.err != nil || took > 2*time.Minute) &&
			w.plan.clients[c.client].closeAt == 0 {
			w.wrong("closing c%d took %v: %v", c.client, took, c.err)
		}
	}
}

// disturbs reports whether a fault affects this client's requests or WebSocket.
func (t *trouble) disturbs(client int) bool {
	switch t.kind {
	case "delete", "expire", "sweep":
		return false
	}
	return t.link < 0 || t.link == client
}

// quiet reports whether nothing disturbs a client between two instants; of
// these kinds, where any are given.
func (w *world) quiet(client int, from, to time.Duration, kinds ...string) bool {
	for _, t := range w.troubles {
		if !t.disturbs(client) || t.from.at > to || t.to.at < from {
			continue
		}
		if len(kinds) == 0 {
			return false
		}
		for _, kind := range kinds {
			if kind == t.kind {
				return false
			}
		}
	}
	return true
}

// deadConnections reports whether a client may have idle connections that the
// backend has closed in the dark: a request over one waits for a time-out.
func (w *world) deadConnections(client int, at time.Duration) bool {
	for _, dark := range w.troubles {
		if dark.kind != "dark" || !dark.disturbs(client) || dark.from.at > at {
			continue
		}
		for _, t := range w.troubles {
			if (t.kind == "down" || t.kind == "reset" || t.kind == "cut") && t.disturbs(client) &&
				t.from.at <= dark.to.at && t.to.at >= dark.from.at {
				return true
			}
		}
	}
	return false
}

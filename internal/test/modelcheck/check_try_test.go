package modelcheck_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// checkTry checks that a Lock or TryLock returns at the latest when its context
// ends, and fails only for a reason.
func (w *world) checkTry(t *try) {
	if t.ret == never {
		w.wrong("%s: a call has not returned", t.who)
		return
	}
	if t.ret.at > t.ctxEnd.at {
		w.wrong("%s: the context ended at %v, the call returned at %v: %v", t.who, t.ctxEnd.at,
			t.ret.at, t.err)
	}
	most := w.plan.latency
	if w.plan.stream {
		most *= 2 // the stream is opened first
	}
	if n := len(t.names); n > 1 { // one after the other, where there is no stream
		most *= time.Duration(n + 1) // and those of a MultiMutex are released again
	}
	if t.try && w.quiet(t.client, t.call.at-70*time.Second, t.ret.at) &&
		!w.deadConnections(t.client, t.ret.at) && t.ret.at-t.call.at > most {
		w.wrong("%s: TryLock took %v", t.who, t.ret.at-t.call.at)
	}
	if t.err != nil {
		w.checkTryError(t)
	}
}

// checkTryError checks the error of a Lock or TryLock.
func (w *world) checkTryError(t *try) {
	var locked *relukko.LockedError
	switch {
	case t.ctxEnd.at == t.ret.at:
		if !isAny(t.err, relukko.ErrLocked, errEnough, context.DeadlineExceeded, api.ErrClosed) &&
			w.quiet(t.client, t.ret.at-70*time.Second, t.ret.at) {
			w.wrong("%s: the context ended, and the error is %v", t.who, t.err)
		}
	case errors.Is(t.err, api.ErrClosed):
		if !w.closed(t) {
			w.wrong("%s: the client was not closed: %v", t.who, t.err)
		}
	case errors.As(t.err, &locked):
		if !t.try {
			w.wrong("%s: Lock returned %v", t.who, t.err)
		}
	case errors.Is(t.err, api.ErrRefused):
		if !w.refused(t.client, ofCreate, t.call.at, t.ret.at) &&
			!w.refused(t.client, ofRenew, t.call.at, t.ret.at) { // of a lock that was found
			w.wrong("%s: nothing was refused: %v", t.who, t.err)
		}
	case w.quiet(t.client, t.call.at-time.Second, t.ret.at):
		w.wrong("%s: nothing being wrong, the call failed: %v", t.who, t.err)
	default:
		w.checkGaveUp(t)
	}
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// closed reports whether the client was closed before a call returned.
func (w *world) closed(t *try) bool {
	return slices.ContainsFunc(w.closes, func(c *closing) bool {
		return c.client == t.client && c.call.before(t.ret)
	})
}

// cannot reports whether requests of these kinds, or calls of the store, were disturbed in the last
// minute of a call.
func (w *world) cannot(t *try, kinds ...string) bool {
	return slices.ContainsFunc(w.troubles, func(trouble *trouble) bool {
		return (trouble.kind == "store" || slices.Contains(kinds, trouble.requests)) &&
			trouble.disturbs(t.client) && trouble.from.at <= t.ret.at &&
			trouble.to.at >= t.ret.at-time.Minute
	})
}

// checkGaveUp checks guarantee 9: a Lock ends by itself only after a minute without
// a reply from the backend, after a longer Retry-After, or after nonsense.
func (w *world) checkGaveUp(t *try) {
	for _, trouble := range w.troubles {
		ends := trouble.after == "3600" || trouble.kind == "false page"
		if ends && trouble.disturbs(t.client) && trouble.from.at <= t.ret.at &&
			trouble.to.at >= t.call.at {
			return
		}
	}
	if n := len(w.answered(t)); n == len(t.names) || n > 0 && t.choice != anyOf {
		w.wrong("%s gave up at %v, though the backend had answered: %v", t.who, t.ret.at, t.err)
	}
}

// answered returns the names of which the backend has said something in the last minute of a call.
// A pool may wait in vain for that of one name.
func (w *world) answered(t *try) map[string]*exchange {
	names := make(map[string]*exchange)
	for _, x := range w.exchange {
		if x.what == ofCreate && x.status == 409 && w.cannot(t, ofList, ofRenew, ofAny) {
			// After a create without an answer only a list says who holds the lock, and
			// the call's own lock is renewed before it counts.
			continue
		}
		if w.made(t, x) && x.understood() && x.status != 429 && x.ret.at > t.ret.at-55*time.Second {
			for _, name := range x.names {
				names[name] = x
			}
		}
	}
	return names
}

// made reports whether an exchange is a create that the call made.
func (w *world) made(t *try, x *exchange) bool {
	return x.client == t.client && x.what == ofCreate && slices.Contains(t.names, x.names[0]) &&
		strings.HasPrefix(t.who, x.creator[:5]) && t.call.before(x.call) && x.ret.before(t.ret) &&
		(t.choice != anyOf || !slices.ContainsFunc(w.tries, func(other *try) bool {
			return other != t && other.mutex == t.mutex && other.call.before(x.call) &&
				x.call.before(other.ret) // whose it may be
		}))
}

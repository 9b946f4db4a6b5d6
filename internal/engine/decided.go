package engine

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// tell returns the sink of an acquire or a connection, which is flushed when the mutex is unlocked.
func (e *Engine) tell(s Sink) Sink {
	if last := len(e.sinks) - 1; last < 0 || e.sinks[last] != s {
		e.sinks = append(e.sinks, s)
	}
	return s
}

// later runs f once the mutex is unlocked.
func (e *Engine) later(f func()) { e.then = append(e.then, f) }

// respond runs done, which may send to the connection, once the mutex is unlocked; c may be nil.
func (e *Engine) respond(c *Conn, done func()) {
	e.later(done)
	if c != nil {
		e.responding = append(e.responding, c.sink)
	}
}

// after runs f under the mutex d from now, unless the engine is closing then.
func (e *Engine) after(d time.Duration, f func()) { e.timers = append(e.timers, timer{d, f}) }

// call makes a store call once the mutex is unlocked. End handles its result, under the mutex.
func (e *Engine) call(make, end func()) { e.calls = append(e.calls, call{make, end}) }

// offerSoon offers a name that may be free, when the rest is decided.
func (e *Engine) offerSoon(q *queue) {
	if q.busy {
		q.again = true
		return
	}
	e.toOffer = append(e.toOffer, q)
}

// tidy has a queue removed, when all is decided, if it is not needed any more.
func (e *Engine) tidy(q *queue) { e.untidy = append(e.untidy, q) }

// guarded turns a panic of the store into an error where no request is to blame for it: neither
// the queue nor the process must suffer.
func (e *Engine) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e.Log.Error("panic", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("relukko: panic: %v", p)
		}
	}()
	return f()
}

// unknownOutcome reports whether a call that ended with err may have had its effect, or may have
// it later.
func unknownOutcome(err error) bool {
	return errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrNotDone)
}

func isUnavailable(err error) bool { return errors.Is(err, store.ErrUnavailable) }

package engine

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// do runs f under the mutex. Then it flushes the sinks that f wrote to, and makes the store calls
// that f decided on.
func (e *Engine) do(f func()) {
	e.mu.Lock()
	f()
	calls, sinks := e.calls, e.sinks
	e.calls, e.sinks = nil, nil
	e.mu.Unlock()
	for _, s := range sinks {
		s.Flush()
	}
	for _, call := range calls {
		if e.inPlace {
			call()
		} else {
			e.background.Go(func() { call(); e.Flush() })
		}
	}
}

// call makes a store call once the mutex is unlocked. The caller holds the mutex.
func (e *Engine) call(f func()) { e.calls = append(e.calls, f) }

// after runs f under the mutex d from now, unless the engine is closing then.
func (e *Engine) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		e.do(func() {
			if !e.closing {
				f()
			}
		})
		e.Flush()
	})
}

// tell returns the sink of an acquire or a connection, which is flushed when the mutex is unlocked.
func (e *Engine) tell(s Sink) Sink {
	e.sinks = append(e.sinks, s)
	return s
}

func (e *Engine) publish(kind store.EventKind, lock *store.Lock) {
	e.Publish(store.Event{Kind: kind, Lock: *lock})
}

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

package engine

import (
	"fmt"
	"runtime/debug"
	"time"
)

// do runs f under the mutex, and then does what was decided. Where store calls never wait, their
// ends are run here one after another: thousands of waiters may end in a row.
func (e *Engine) do(f func()) {
	var few [4]func()
	for next := append(few[:0], f); len(next) > 0; next = next[1:] {
		for _, c := range e.decide(next[0]) {
			if e.inPlace {
				c.make()
				next = append(next, c.end)
				continue
			}
			e.background.Go(func() {
				c.make()
				e.do(c.end)
				e.Flush()
			})
		}
	}
}

// decide runs f under the mutex, and returns the store calls that are due.
func (e *Engine) decide(f func()) []call {
	e.mu.Lock()
	f()
	for _, q := range e.untidy {
		e.drop(q)
	}
	e.untidy = e.untidy[:0]
	d := e.decided
	e.decided = decided{}
	e.mu.Unlock()
	for _, s := range d.sinks {
		s.Flush()
	}
	for _, f := range d.then {
		f()
	}
	return d.calls
}

// call makes a store call once the mutex is unlocked. End handles its result, under the mutex.
func (e *Engine) call(make, end func()) { e.calls = append(e.calls, call{make, end}) }

// later runs f once the mutex is unlocked.
func (e *Engine) later(f func()) { e.then = append(e.then, f) }

// after runs f under the mutex d from now, unless the engine is closing then.
func (e *Engine) after(d time.Duration, f func()) {
	time.AfterFunc(d, func() {
		ran := false
		e.do(func() {
			if ran = !e.closing && e.stopped.Err() == nil; ran {
				f()
			}
		})
		if ran {
			e.Flush()
		}
	})
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

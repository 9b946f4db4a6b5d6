package engine

import (
	"runtime"
	"time"
)

// do runs fs under the mutex, and then does what was decided. Where store calls never wait, their
// ends are run here one after another: thousands of waiters may end in a row.
func (e *Engine) do(fs ...func()) {
	var few [4]func()
	for len(fs) > 0 {
		calls := e.decide(fs...)
		fs = few[:0]
		for _, c := range calls {
			if e.inPlace {
				c.make()
				fs = append(fs, c.end)
				continue
			}
			select {
			case e.work <- c:
			default:
				e.background.Go(func() { e.make(c) })
			}
		}
	}
}

// maxIdle is how many goroutines wait for store calls, at most. One that has made a call has a
// stack that is large enough for the next one.
const maxIdle = 128

// make makes store calls, until there are enough goroutines that do.
func (e *Engine) make(c call) {
	for {
		c.make()
		e.ended(c.end)
		if e.idle.Add(1) > maxIdle {
			e.idle.Add(-1)
			return
		}
		select {
		case c = <-e.work:
			e.idle.Add(-1)
		case <-e.stopped.Done():
			return
		}
	}
}

// ended handles the end of a store call, together with those of other calls that return now, as
// calls that share a transaction do: their responses go out in one write.
func (e *Engine) ended(end func()) {
	e.endsMu.Lock()
	e.ends = append(e.ends, end)
	first := len(e.ends) == 1
	e.endsMu.Unlock()
	if !first {
		return
	}
	runtime.Gosched()
	e.endsMu.Lock()
	ends := e.ends
	e.ends = make([]func(), 0, len(ends))
	e.endsMu.Unlock()
	e.do(ends...)
	e.Flush()
}

// decide runs each of fs and offers the names that came free with it, under the mutex. It returns
// the store calls that are due.
func (e *Engine) decide(fs ...func()) []call {
	e.mu.Lock()
	for _, f := range fs {
		f()
		for i := 0; i < len(e.toOffer); i++ {
			e.offer(e.toOffer[i])
		}
		e.toOffer = e.toOffer[:0]
		for _, q := range e.untidy {
			e.drop(q)
		}
		e.untidy = e.untidy[:0]
	}
	d := e.decided
	e.decided = decided{}
	e.mu.Unlock()
	for _, f := range d.then {
		f()
	}
	for _, s := range d.sinks { // first: a new holder has waited for longer
		s.Flush()
	}
	for _, s := range d.responding {
		s.Flush()
	}
	for _, t := range d.timers {
		time.AfterFunc(t.after, func() { e.fire(t.f) })
	}
	return d.calls
}

// fire runs the function of a timer.
func (e *Engine) fire(f func()) {
	ran := false
	e.do(func() {
		if ran = !e.closing && e.stopped.Err() == nil; ran {
			f()
		}
	})
	if ran {
		e.Flush()
	}
}

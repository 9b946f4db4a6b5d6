package engine

import "time"

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

// decide runs f under the mutex, offers the names that came free, and returns the store calls that
// are due.
func (e *Engine) decide(f func()) []call {
	e.mu.Lock()
	f()
	for i := 0; i < len(e.toOffer); i++ {
		e.offer(e.toOffer[i])
	}
	e.toOffer = e.toOffer[:0]
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

package clock

import (
	"sync"
	"time"
)

// Alarm calls a function when its time has come, as time.AfterFunc does. It is for what is nearly
// always cleared before: a timer that is the earliest of all has the runtime wake the thread that
// waits for the network. So the timer of an alarm that was cleared or freed keeps running, and
// serves the next one. An Alarm is safe for concurrent use. The zero Alarm is never due.
type Alarm struct {
	bell *bell
	user uint64 // of the bell
}

// bell has a timer, which serves one alarm after another.
type bell struct {
	bells *bells

	mu    sync.Mutex
	user  uint64    // the number of the present alarm
	f     func()    // nil once it was freed
	due   time.Time // when f is to be called; zero: never
	timer *time.Timer
	rings time.Time // when the timer will; zero: never
}

const (
	maxBells = 128         // without an alarm that are kept
	maxWound = time.Minute // for which a timer runs, and keeps its bell after the last alarm
)

// bells are the bells of a clock that have no alarm.
type bells struct {
	mu   sync.Mutex
	free []*bell
}

func (s *bells) alarm(f func()) Alarm {
	b := s.take()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.user++
	b.f = f
	return Alarm{b, b.user}
}

func (s *bells) take() *bell {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.free) - 1
	if last < 0 {
		return &bell{bells: s}
	}
	b := s.free[last]
	s.free = s.free[:last]
	return b
}

func (s *bells) put(b *bell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < maxBells {
		s.free = append(s.free, b)
	} else if b.timer != nil {
		b.timer.Stop()
	}
}

// Set has the function called in d, once, and not when it was due before.
func (a Alarm) Set(d time.Duration) {
	b := a.lock()
	if b == nil {
		return
	}
	defer b.mu.Unlock()
	b.due = time.Now().Add(d)
	if b.rings.IsZero() || b.due.Before(b.rings) {
		b.wind(d)
	}
}

// Clear has the function not called until the next Set. It may be running.
func (a Alarm) Clear() {
	if b := a.lock(); b != nil {
		b.due = time.Time{}
		b.mu.Unlock()
	}
}

// Free is Clear, after which the alarm is not used any more: no method has an effect.
func (a Alarm) Free() {
	b := a.lock()
	if b == nil {
		return
	}
	b.due, b.f = time.Time{}, nil
	b.mu.Unlock()
	b.bells.put(b)
}

// lock locks the bell of an alarm that was not freed, else it returns nil.
func (a Alarm) lock() *bell {
	if a.bell == nil {
		return nil
	}
	a.bell.mu.Lock()
	if a.bell.user == a.user && a.bell.f != nil {
		return a.bell
	}
	a.bell.mu.Unlock()
	return nil
}

// wind has the timer ring in d, when b is due, or before. The caller holds b.mu.
func (b *bell) wind(d time.Duration) {
	d = min(d, maxWound)
	b.rings = time.Now().Add(d)
	if b.timer == nil {
		b.timer = time.AfterFunc(d, b.ring)
	} else {
		b.timer.Reset(d)
	}
}

// ring calls the function if that is due, else it rings again when it will be.
func (b *bell) ring() {
	b.mu.Lock()
	var f func()
	b.rings = time.Time{}
	if left := time.Until(b.due); !b.due.IsZero() && left > 0 {
		b.wind(left)
	} else if !b.due.IsZero() {
		f, b.due = b.f, time.Time{}
	}
	b.mu.Unlock()
	if f != nil {
		f()
	}
}

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// timeline prints one line for each measurement and keeps the score.
type timeline struct {
	out     io.Writer
	guarded bool
	began   time.Time

	workers map[string]*state
	freed   time.Time // when the lock last came free
	score   score
}

// state is what one goroutine is doing.
type state struct {
	doing  eventKind
	since  time.Time
	waited time.Duration
	held   time.Duration
	row    string // of all goroutines, at the instant when it was done
}

func newTimeline(out io.Writer, guarded bool) *timeline {
	return &timeline{out: out, guarded: guarded, began: time.Now(),
		workers: make(map[string]*state)}
}

// follow handles the events until the channel is closed. They come from several
// processes and not quite in order, so it handles them with a delay.
func (t *timeline) follow(events <-chan event) {
	const delay = 100 * time.Millisecond
	tick := time.NewTicker(delay / 2)
	defer tick.Stop()
	var pending []event
	for open := true; open; {
		var settled time.Time // events before this are complete
		select {
		case e, ok := <-events:
			if ok {
				pending = append(pending, e)
				continue
			}
			open, settled = false, time.Now()
		case <-tick.C:
			settled = time.Now().Add(-delay)
		}
		slices.SortStableFunc(pending, func(a, b event) int { return a.At.Compare(b.At) })
		for len(pending) > 0 && !pending[0].At.After(settled) {
			t.take(pending[0])
			pending = pending[1:]
		}
	}
}

func (t *timeline) take(e event) {
	s := t.workers[e.Who]
	if s == nil {
		s = new(state)
		t.workers[e.Who] = s
	}
	switch e.Kind {
	case deleted:
		t.noteDeleted(e)
		return
	case holding:
		s.waited = e.At.Sub(s.since)
		if s.since.Before(t.freed) { // it was waiting when the lock came free
			t.score.handoffs = append(t.score.handoffs, e.At.Sub(t.freed))
		}
		if e.Long {
			s.doing = holding
			t.line(e.At, "%s  %s  begins a long measurement", t.row(), e.Who)
		}
	case done:
		s.held, s.row = e.At.Sub(s.since), t.row()
		t.freed = e.At
	case result:
		t.print(e, s)
		t.count(e, s)
	}
	s.doing, s.since = e.Kind, e.At
}

func (t *timeline) count(e event, s *state) {
	switch {
	case e.Lost != "":
		t.score.cause, t.score.stoppedAt = e.Lost, s.since
		return
	case e.Wrong:
		t.score.wrong++
	}
	t.score.measurements++
}

func (t *timeline) noteDeleted(e event) {
	what := fmt.Sprintf("somebody deletes the lock of %s", e.Who)
	if e.Lost != "" {
		what = fmt.Sprintf("the lock of %s could not be deleted: %s", e.Who, e.Lost)
	} else {
		t.freed = e.At
		t.score.deletedWho, t.score.deletedAt = e.Who, e.At
	}
	t.line(e.At, "%s", what)
}

// header explains the lines that follow.
func (t *timeline) header() {
	held := "█ has the instrument, · waits for it"
	if !t.guarded {
		held = "█ uses the instrument"
	}
	var numbers, names strings.Builder
	for p := range processes {
		fmt.Fprintf(&numbers, "%-*s", 2*goroutines+2, fmt.Sprintf("proc. %d", p+1))
		for g := range goroutines {
			fmt.Fprintf(&names, "%c ", 'a'+g)
		}
		names.WriteString("  ")
	}
	fmt.Fprintf(t.out, "\n%9s  %s  %s\n%9s  %s\n",
		"", numbers.String(), held, "time", names.String())
}

// row shows all goroutines in columns.
func (t *timeline) row() string {
	var row strings.Builder
	for p := range processes {
		for g := range goroutines {
			mark := "  "
			if s := t.workers[nameOf(p+1, g)]; s != nil && s.doing == holding {
				mark = "█ "
			} else if s != nil && s.doing == waiting {
				mark = "· "
			}
			row.WriteString(mark)
		}
		row.WriteString("  ")
	}
	return row.String()
}

func (t *timeline) print(e event, s *state) {
	what := fmt.Sprintf("set %5.2f V, read %5.2f V", e.Volts, e.Read)
	if e.Read >= overload {
		what = fmt.Sprintf("set %5.2f V, read overload", e.Volts)
	}
	switch {
	case e.Lost != "":
		what = "LOST the lock, and stopped"
	case e.Wrong:
		what += "  WRONG"
	}
	held := fmt.Sprintf("used it %4d ms", s.held.Milliseconds())
	if t.guarded {
		held = fmt.Sprintf("waited %4d ms, held %4d ms", s.waited.Milliseconds(),
			s.held.Milliseconds())
	}
	t.line(s.since, "%s  %s  %s: %s", s.row, e.Who, held, what)
}

func (t *timeline) line(at time.Time, format string, args ...any) {
	fmt.Fprintf(t.out, "%7.2f s  %s\n", at.Sub(t.began).Seconds(), fmt.Sprintf(format, args...))
}

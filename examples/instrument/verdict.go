package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// score is what the verdict is about.
type score struct {
	measurements int
	wrong        int             // of them, with a reading that is not what was set
	handoffs     []time.Duration // from one holder's end to the start of a waiter

	deletedWho string // the goroutine whose lock was deleted by hand; empty: none
	deletedAt  time.Time
	stoppedAt  time.Time // when that holder's work had stopped
	cause      string    // of its context; empty: it did not stop
}

// verdict prints the score. It returns an error when a guarded run has failed.
func (s *score) verdict(out io.Writer, guarded bool) error {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(out, "  %-16s %s\n", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(out, "\nverdict")
	line("measurements", "%d", s.measurements)
	line("wrong readings", "%d", s.wrong)
	if !guarded {
		fmt.Fprintln(out, "\nWith the lock, none are wrong: run this without -unguarded.")
		return nil
	}
	if n := len(s.handoffs); n > 0 {
		slices.Sort(s.handoffs)
		line("handoff", "median %s, 95 %% within %s (%d times)", ms(s.handoffs[n/2]),
			ms(s.handoffs[n*95/100]), n)
	}
	var problems []error
	switch {
	case s.deletedWho == "":
		line("deleted by hand", "nothing, the run was too short")
	case s.cause == "":
		problems = append(problems,
			fmt.Errorf("%s did not notice that its lock was deleted", s.deletedWho))
	default:
		line("deleted by hand", "the lock of %s, which knew %s later:", s.deletedWho,
			ms(s.stoppedAt.Sub(s.deletedAt)))
		line("", "%s", strings.ReplaceAll(s.cause, "\n", "; "))
	}
	if s.wrong > 0 {
		problems = append(problems, fmt.Errorf("%d wrong readings under the lock", s.wrong))
	}
	if s.measurements == 0 {
		problems = append(problems, errors.New("nothing was measured"))
	}
	return errors.Join(problems...)
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

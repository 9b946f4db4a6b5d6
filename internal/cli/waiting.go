package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

const (
	// redrawEvery is how often the line on a terminal is updated. Elsewhere it is
	// the least time between two lines.
	redrawEvery = time.Second
	// repeatEvery is how often the line is repeated elsewhere: CI systems end
	// jobs that print nothing for some minutes.
	repeatEvery = 2 * time.Minute
)

// waiting shows what a command waits for. On a terminal that is one line, which
// is updated each second; elsewhere a line when the holder of the lock changes, or
// the backend begins to fail, and one each 2 min.
//
// It is the slog.Handler of the mutexes.
type waiting struct {
	out  io.Writer // io.Discard for --quiet
	errs io.Writer // for what was not cleaned up
	base string    // of the backend
	tty  bool

	mu      sync.Mutex
	began   time.Time
	any     bool      // of several locks one
	all     bool      // of several locks all
	name    string    // of the lock or locks; "" before there is anything to show
	holder  *api.Lock // nil where it is unknown
	place   int       // in the queue, from 1; 0 where it is unknown
	trouble string    // why the backend does not say
	over    bool
	stop    chan struct{} // ends the goroutine that redraws; nil before there is one

	printed   string // elsewhere than on a terminal: the line as it was printed
	printedAt time.Time
}

func newWaiting(out io.Writer, base string, quiet bool) *waiting {
	w := &waiting{out: out, errs: out, base: base, tty: terminalWidth(out) > 0, began: time.Now()}
	if quiet {
		w.out, w.tty = io.Discard, false
	}
	return w
}

// onWait returns a function for [relukko.WithOnWait].
func (w *waiting) onWait(name string) func(relukko.Waiting) {
	return func(waiting relukko.Waiting) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.name = name
		if waiting.Holder == nil && w.trouble != "" { // the trouble says more
			return
		}
		w.holder, w.place, w.trouble = waiting.Holder, waiting.Ahead+1, ""
		if w.all && w.holder != nil {
			w.name = w.holder.Name // of the locks that one
		}
		w.changed()
	}
}

// end removes the line. If something was shown, it prints that the lock was
// acquired, which is that of the session; nil: none was.
func (w *waiting) end(s *relukko.Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.stop != nil {
		close(w.stop)
		if w.tty {
			fmt.Fprint(w.out, "\r\x1b[K")
		}
	}
	if s != nil && w.name != "" {
		what := "lock"
		if w.any || w.all {
			w.name = s.Name()
		}
		if w.all {
			what = "locks"
		}
		fmt.Fprintf(w.out, "relukko: acquired %s %q after %s\n",
			what, w.name, short(time.Since(w.began)))
	}
}

// changed shows a change. The caller holds w.mu.
func (w *waiting) changed() {
	if w.over {
		return
	}
	if w.stop == nil {
		w.stop = make(chan struct{})
		go w.redraw(w.stop)
	}
	w.show(time.Now())
}

func (w *waiting) redraw(stop chan struct{}) {
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			w.mu.Lock()
			if !w.over {
				w.show(time.Now())
			}
			w.mu.Unlock()
		}
	}
}

// show updates the line on a terminal. Elsewhere it prints a line if something has
// changed or it is time to repeat it. The caller holds w.mu.
func (w *waiting) show(now time.Time) {
	if w.tty {
		fmt.Fprintf(w.out, "\r%s\x1b[K", w.line(now, terminalWidth(w.out)-1))
		return
	}
	line := w.trouble
	if line == "" {
		line = w.name + "\n"
		if w.holder != nil {
			line += w.holder.ID
		}
	}
	least := redrawEvery
	if line == w.printed {
		least = repeatEvery
	}
	if now.Sub(w.printedAt) < least {
		return
	}
	w.printed, w.printedAt = line, now
	fmt.Fprintln(w.out, w.line(now, 0))
}

// line returns the line in the given number of columns, 0: any number. It is the
// name of the lock that is shortened first, not the holder; the first place is left
// out then.
func (w *waiting) line(now time.Time, width int) string {
	elapsed := ""
	if d := now.Sub(w.began).Truncate(time.Second); d > 0 {
		elapsed = ", waiting for " + short(d)
	}
	if w.trouble != "" {
		trouble := "relukko: " + w.trouble
		if width > 0 {
			trouble = clip(trouble, max(width-columns(elapsed), 1))
		}
		return clip(trouble+elapsed, width)
	}
	before, name := `relukko: waiting for lock "`, strconv.Quote(w.name)
	switch {
	case w.any:
		before = `relukko: waiting for any of "`
	case w.all && w.holder == nil:
		before = `relukko: waiting for all of "`
	}
	name, place := name[1:len(name)-1], ""
	if w.place > 0 {
		place = ordinal(w.place) + " in the queue, "
	}
	held := "whose holder is not known yet"
	switch {
	case w.holder != nil:
		held = heldBy(w.holder, now)
	case w.place > 0:
		held = "the holder is not known yet"
	}
	if all := before + name + place + held + elapsed; w.place == 1 && width > 0 &&
		columns(all)+len(`", `) > width {
		place = ""
	}
	held = `", ` + place + held
	if width > 0 {
		room := width - columns(before) - columns(elapsed)
		name = clip(name, max(room-columns(held), min(minName, room/2)))
		held = clip(held, max(room-columns(name), 1))
	}
	return clip(before+name+held+elapsed, width)
}

// minName is how many columns of a name are left where the line is too long.
const minName = 8

// Enabled implements slog.Handler.
func (w *waiting) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// Handle implements slog.Handler. It shows why the lock cannot be acquired, and in
// any case what was not cleaned up.
func (w *waiting) Handle(_ context.Context, r slog.Record) error {
	var err error
	r.Attrs(func(a slog.Attr) bool {
		if e, ok := a.Value.Any().(error); ok && a.Key == "error" {
			err = e
		}
		return true
	})
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Level >= slog.LevelError {
		fmt.Fprintf(w.errs, "relukko: %s: %s\n", r.Message, explain(err, w.base).text)
		return nil
	}
	w.trouble = explain(err, w.base).text + ", retrying"
	w.changed()
	return nil
}

// WithAttrs implements slog.Handler.
func (w *waiting) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements slog.Handler.
func (w *waiting) WithGroup(string) slog.Handler { return w }

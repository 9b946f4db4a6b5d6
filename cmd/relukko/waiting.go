package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// waiting tells, on stderr, what is waited for. On a terminal that is one line,
// kept up to date while it lasts; elsewhere a line when it begins to wait, or
// begins to have trouble with the backend, and one when it has the lock.
//
// As a slog.Handler it takes what the mutexes log meanwhile.
type waiting struct {
	out  io.Writer
	base string // of the backend
	tty  bool

	mu      sync.Mutex
	began   time.Time
	over    bool
	name    string    // what is waited for; "" before there is anything to tell
	holder  *api.Lock // nil where nobody knows
	trouble string
	told    string        // elsewhere: the trouble that was told of
	stop    chan struct{} // ends redraw
}

func newWaiting(base string) *waiting {
	return &waiting{out: os.Stderr, base: base, tty: width(2) > 0, began: time.Now()}
}

// onWait is a function for relukko.WithOnWait.
func (w *waiting) onWait(name string) func(relukko.Waiting) {
	return func(waiting relukko.Waiting) {
		holder := waiting.Holder
		w.mu.Lock()
		defer w.mu.Unlock()
		first := w.name != name
		if holder == nil && w.trouble != "" { // that is all that is known
			w.name = name
			return
		}
		w.name, w.holder, w.trouble, w.told = name, holder, "", ""
		if !w.tty && first && !w.over {
			fmt.Fprintf(w.out, "relukko: waiting for lock %q, %s\n", name, heldBy(holder, time.Now()))
		}
		w.draw()
	}
}

// end takes the line away. Where there was something to tell, it tells how it
// ended.
func (w *waiting) end(acquired bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.stop != nil {
		close(w.stop)
		fmt.Fprint(w.out, "\r\x1b[K")
	}
	if acquired && w.name != "" {
		fmt.Fprintf(w.out, "relukko: have lock %q after %s\n", w.name, short(time.Since(w.began)))
	}
}

// draw shows the line, on a terminal. w.mu is held.
func (w *waiting) draw() {
	if !w.tty || w.over {
		return
	}
	if w.stop == nil {
		w.stop = make(chan struct{})
		go w.redraw(w.stop)
	}
	text := w.trouble
	if text == "" {
		text = fmt.Sprintf("waiting for lock %q, %s", w.name, heldBy(w.holder, time.Now()))
	}
	text += ", waiting for " + short(time.Since(w.began).Truncate(time.Second))
	fmt.Fprintf(w.out, "\r%s\x1b[K", clip("relukko: "+text, width(2)-1))
}

func (w *waiting) redraw(stop chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			w.mu.Lock()
			w.draw()
			w.mu.Unlock()
		}
	}
}

// clip shortens s to n characters.
func clip(s string, n int) string {
	if n < 1 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// Enabled implements slog.Handler.
func (w *waiting) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler: what keeps us from the lock is told as long as
// we wait, what is left behind is told in any case.
func (w *waiting) Handle(_ context.Context, r slog.Record) error {
	var err error
	r.Attrs(func(a slog.Attr) bool {
		if e, ok := a.Value.Any().(error); ok && a.Key == "error" {
			err = e
		}
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
	case r.Level >= slog.LevelError:
		fmt.Fprintf(w.out, "relukko: %s: %s\n", r.Message, plain(err))
	case !w.over:
		w.trouble, _, _ = strings.Cut(explain(err, w.base).text, ". ")
		w.trouble += ", trying again"
		if !w.tty && w.told != w.trouble {
			w.told = w.trouble
			fmt.Fprintf(w.out, "relukko: %s\n", w.trouble)
		}
		w.draw()
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (w *waiting) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements slog.Handler.
func (w *waiting) WithGroup(string) slog.Handler { return w }

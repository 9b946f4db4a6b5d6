package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// waiting shows on stderr what a command waits for. On a terminal that is one
// line, which is updated each second; elsewhere a line when the wait begins, or
// when the backend begins to fail, and one when the lock is acquired.
//
// It is the slog.Handler of the mutexes.
type waiting struct {
	out  io.Writer
	base string // of the backend
	tty  bool

	mu      sync.Mutex
	began   time.Time
	over    bool
	name    string    // of the lock; "" before there is anything to show
	holder  *api.Lock // nil where it is unknown
	trouble string    // why the backend does not say
	printed string    // elsewhere than on a terminal: the trouble that was shown
	stop    chan struct{}
}

func newWaiting(out io.Writer, base string) *waiting {
	return &waiting{out: out, base: base, tty: columns(out) > 0, began: time.Now()}
}

// onWait returns a function for [relukko.WithOnWait].
func (w *waiting) onWait(name string) func(relukko.Waiting) {
	return func(waiting relukko.Waiting) {
		holder := waiting.Holder
		w.mu.Lock()
		defer w.mu.Unlock()
		first := w.name != name
		w.name = name
		if holder == nil && w.trouble != "" { // the trouble says more
			return
		}
		w.holder, w.trouble, w.printed = holder, "", ""
		if !w.tty && first && !w.over {
			fmt.Fprintf(w.out, "relukko: waiting for lock %q, %s\n",
				name, heldBy(holder, time.Now()))
		}
		w.draw()
	}
}

// end removes the line. If something was shown, it prints that the lock was
// acquired.
func (w *waiting) end(acquired bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.stop != nil {
		close(w.stop)
		fmt.Fprint(w.out, "\r\x1b[K")
	}
	if acquired && w.name != "" {
		fmt.Fprintf(w.out, "relukko: acquired lock %q after %s\n",
			w.name, short(time.Since(w.began)))
	}
}

// draw shows the line, on a terminal. The caller holds w.mu.
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
	fmt.Fprintf(w.out, "\r%s\x1b[K", clip("relukko: "+text, columns(w.out)-1))
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

// Enabled implements slog.Handler.
func (w *waiting) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// Handle implements slog.Handler. It shows why the lock cannot be acquired while
// the command waits, and in any case what was not cleaned up.
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
		w.trouble = explain(err, w.base).text + ", retrying"
		if !w.tty && w.printed != w.trouble {
			w.printed = w.trouble
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

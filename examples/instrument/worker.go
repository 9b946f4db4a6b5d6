package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

const (
	// One goroutine makes one long measurement, during which its lock is deleted.
	longMeasurer = "2a"
	longTime     = 3 * time.Second
	readEvery    = 100 * time.Millisecond
)

// worker is one of the processes that share the instrument. Its goroutines share
// one Mutex, which excludes them from each other and from the other processes.
type worker struct {
	number     int // 1, 2, 3
	instrument string
	mutex      *relukko.Mutex // nil: unguarded
	began      time.Time
	duration   time.Duration
	events     *eventWriter
}

// runWorker is main of a worker process.
func runWorker(number int, instrument, lockName string, duration time.Duration) error {
	// Ctrl-C ends the work. So does the end of the parent process, which closes
	// our standard input: no worker outlives its parent.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	signal.Ignore(syscall.SIGPIPE) // without a parent there is still a lock to release

	client, err := api.FromEnv() // RELUKKO_BASE_URL and RELUKKO_API_KEY
	if err != nil {
		return err
	}
	w := &worker{number: number, instrument: instrument, began: time.Now(), duration: duration,
		events: &eventWriter{json: json.NewEncoder(os.Stdout)}}
	if lockName != "" {
		w.mutex = relukko.NewMutex(client, lockName)
	}

	g, working := errgroup.WithContext(ctx)
	for i := range goroutines {
		g.Go(func() error { return w.work(working, nameOf(number, i)) })
	}
	err = g.Wait()
	if ctx.Err() != nil && !errors.Is(err, relukko.ErrNotReleased) {
		err = nil // we were asked to end
	}

	// Shutdown waits for what Lock and Unlock clean up in the background.
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, client.Shutdown(closing))
}

// work is one goroutine: it measures in a loop until the time is up. One of them
// makes a long measurement in between.
func (w *worker) work(ctx context.Context, name string) error {
	d, err := connect(ctx, w.instrument)
	if err != nil {
		return err
	}
	defer d.close()

	longToDo := name == longMeasurer && w.mutex != nil
	for time.Since(w.began) < w.duration || longToDo {
		long := longToDo && time.Since(w.began) > w.duration/4
		if long {
			longToDo = false
		}
		if err := w.measure(ctx, name, d, long); err != nil {
			return err
		}
		// Evaluating a reading does not need the instrument.
		if err := pause(ctx, rand.N(500*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// measure sources a voltage and reads it back: once, or for a while to see
// whether it drifts. Nothing else uses the instrument meanwhile.
func (w *worker) measure(ctx context.Context, name string, d *driver, long bool) error {
	volts := math.Round(rand.Float64()*9900)/100 + 0.5
	readings := 1
	if long {
		readings = int(longTime / readEvery)
	}

	w.events.tell(event{Kind: waiting, Who: name})
	wrong := 0
	var last float64
	err := w.exclusively(ctx, func(ctx context.Context) error {
		w.events.tell(event{Kind: holding, Who: name, Lock: lockID(ctx), Long: long})
		// ctx is done as soon as the lock is lost.
		defer func() { w.events.tell(event{Kind: done, Who: name}) }()

		if err := d.source(ctx, volts); err != nil {
			return err
		}
		for i := range readings {
			if i > 0 {
				if err := pause(ctx, readEvery); err != nil {
					return err
				}
			}
			var err error
			if last, err = d.measure(ctx); err != nil {
				return err
			}
			if math.Abs(last-volts) > volts/100 {
				wrong++
			}
		}
		return nil
	})

	if lost, ok := errors.AsType[*relukko.LostError](err); ok {
		// Another goroutine may have used the instrument before this one
		// stopped: its readings do not count.
		w.events.tell(event{Kind: result, Who: name, Lost: lost.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	w.events.tell(event{Kind: result, Who: name, Volts: volts, Read: last, Wrong: wrong > 0})
	return nil
}

// exclusively calls f while no other goroutine of any process is in here.
func (w *worker) exclusively(ctx context.Context, f func(context.Context) error) error {
	if w.mutex == nil {
		return f(ctx)
	}
	return w.mutex.Do(ctx, f)
}

// lockID returns the id of the lock that guards ctx.
func lockID(ctx context.Context) string {
	if session, ok := relukko.FromContext(ctx); ok {
		return session.Info().ID
	}
	return ""
}

// eventWriter sends events to the parent process.
type eventWriter struct {
	mu   sync.Mutex
	json *json.Encoder
}

func (w *eventWriter) tell(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.At = time.Now()
	w.json.Encode(e) // fails once the parent has ended
}

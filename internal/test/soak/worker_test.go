//go:build linux

package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// workerEnv has the test binary be a worker: a workerConfig in JSON.
const workerEnv = "RELUKKO_SOAK_WORKER"

const (
	goroutines = 3 // of a worker
	apiKey     = "soak"

	tick = 10 * time.Millisecond
	// Half of the time between the end of a context and that of a lease of 1 s.
	stallFrom = 50 * time.Millisecond
)

// workerConfig is what a worker is told.
type workerConfig struct {
	Name     string
	URL      string
	Locks    []string
	TTL      time.Duration
	Register string // folder
	Journal  string // file
	Watch    bool   // by WebSocket
	// Strict workers ask the session whether they hold the lock, which looks at
	// the clock. The others ask the guarded context, which a timer ends: they
	// run on one processor, so that whatever keeps that timer back keeps back
	// all of the process, and is noticed.
	Strict bool
}

type worker struct {
	workerConfig
	journal  *journal
	register register
	client   *api.Client
	mutexes  map[string]*relukko.Mutex
	stays    atomic.Int64
	failed   atomic.Bool
}

// workerMain is main of a worker process. It ends when its standard input does.
func workerMain(config string) int {
	w := &worker{mutexes: map[string]*relukko.Mutex{}}
	if err := w.open(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	working, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	go w.watch()

	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() { w.work(working) })
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.client.Shutdown(ctx); err != nil {
		w.fault(0, "closing the client: %v", err)
	}
	w.journal.note(event{At: now(), Kind: ended})
	if w.failed.Load() {
		return 1
	}
	return 0
}

func (w *worker) open(config string) (err error) {
	if err := json.Unmarshal([]byte(config), &w.workerConfig); err != nil {
		return err
	}
	if !w.Strict {
		runtime.GOMAXPROCS(1)
	}
	w.register = register{w.Register}
	if w.journal, err = openJournal(w.Journal); err != nil {
		return err
	}
	var options []api.Option
	if !w.Watch {
		options = append(options, api.WithoutWatch())
	}
	if w.client, err = api.New(w.URL, apiKey, options...); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	for _, lock := range w.Locks {
		w.mutexes[lock] = relukko.NewMutex(w.client, lock, relukko.WithTTL(w.TTL),
			relukko.WithCreator(w.Name), relukko.WithLogger(log))
	}
	return nil
}

// watch notes when the process does not run, for whatever reason.
func (w *worker) watch() {
	for last := now(); ; {
		<-time.After(tick)
		at := now()
		if at > last.add(stallFrom) {
			w.journal.note(event{At: at, Kind: stalled, From: last})
		}
		last = at
	}
}

func (w *worker) fault(stay int, format string, args ...any) {
	w.failed.Store(true)
	w.journal.note(event{At: now(), Kind: fault, Stay: stay, Text: fmt.Sprintf(format, args...)})
}

// work is one goroutine: it takes one lock after the other until working ends,
// and then each of them once more, whatever has happened.
func (w *worker) work(working context.Context) {
	for pause(working, between(0, 100*time.Millisecond)) {
		w.attempt(working, w.Locks[rand.IntN(len(w.Locks))])
	}
	for _, lock := range w.Locks {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if !w.stay(ctx, lock, (*relukko.Mutex).Lock, brief) {
			w.fault(0, "no fault happens any more, but lock %s was not to be had", lock)
		}
		cancel()
	}
}

// attempt tries to have a lock in one of the ways that there are.
func (w *worker) attempt(working context.Context, lock string) {
	// A waiter does not notice for half a minute that the network went dark, and may
	// be granted the lock meanwhile: no worker waits that long.
	ctx, cancel := context.WithTimeout(working, between(time.Second, 4*time.Second))
	switch rand.IntN(10) {
	case 0:
		w.stay(ctx, lock, (*relukko.Mutex).TryLock, w.duration(lock))
	case 1:
		// Cancelled at any instant, also within the lock: the lock stays.
		time.AfterFunc(rand.N(50*time.Millisecond), cancel)
		w.stay(ctx, lock, (*relukko.Mutex).Lock, w.duration(lock))
	default:
		w.stay(ctx, lock, (*relukko.Mutex).Lock, w.duration(lock))
	}
	cancel()
}

const brief = 20 * time.Millisecond

// duration is how long to stay in a lock. Half of the locks are for those who
// are long in it, for there is no loss without heartbeats, and half change hands often.
func (w *worker) duration(lock string) time.Duration {
	switch long := slices.Index(w.Locks, lock)%2 == 0; {
	case long && rand.IntN(2) == 0:
		return between(w.TTL, 5*w.TTL)
	case rand.IntN(20) == 0:
		return between(brief, w.TTL)
	}
	return between(0, brief)
}

// stay takes a lock, works under it and releases it. It returns false where it
// did not get it.
func (w *worker) stay(ctx context.Context, lock string,
	take func(*relukko.Mutex, context.Context) (context.Context, error), d time.Duration) bool {
	n := int(w.stays.Add(1))
	m := w.mutexes[lock]
	w.journal.note(event{At: now(), Kind: asked, Stay: n, Lock: lock})
	guarded, err := take(m, ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, relukko.ErrLocked) {
			w.fault(n, "Lock fails: %v", err)
		}
		return false
	}
	session, _ := relukko.FromContext(guarded)
	w.journal.note(event{At: now(), Kind: entered, Stay: n, ID: session.Info().ID,
		Token: session.Info().FencingToken})
	w.guarded(n, lock, session, d)

	err = m.Unlock(guarded)
	at := now()
	lease := session.LeaseEnd()
	var loss *relukko.LostError
	switch {
	case errors.As(err, &loss):
		if loss.Reason == relukko.LossRefused {
			w.fault(n, "the lock is lost for a reason that there is none for: %v", loss)
		}
		if errors.Is(loss, api.ErrGone) && loss.Reason != relukko.LossDeleted {
			w.fault(n, "the backend said that the lock is gone, but that was not the end: %v", loss)
		}
		w.journal.note(event{At: at, Kind: lost, Stay: n, Reason: loss.Reason.String(),
			Left: time.Until(loss.Deadline)})
	case err != nil && !errors.Is(err, relukko.ErrNotReleased):
		w.fault(n, "Unlock fails: %v", err)
	case session.Err() != relukko.ErrUnlocked:
		w.fault(n, "Unlock says %v, the session %v, whose lease ends at %v", err, session.Err(),
			lease)
	}
	w.journal.note(event{At: at, Kind: left, Stay: n, Released: err == nil})
	return true
}

// guarded is the critical section: it writes to the register, again and again,
// while the lock is held.
func (w *worker) guarded(n int, lock string, session *relukko.Session, d time.Duration) {
	ctx := session.CleanupContext()
	begin := now()
	for first := true; first || now() < begin.add(d); first = false {
		at := now()
		if w.Strict && session.Err() != nil || !w.Strict && ctx.Err() != nil {
			// A write that was under way when the lock was lost, as it were.
			w.write(n, lock, session)
			return
		}
		w.journal.note(event{At: at, Kind: held, Stay: n})
		if !first {
			// What cannot be broken off, and may end too late.
			<-time.After(rand.N(10 * time.Millisecond))
		}
		w.write(n, lock, session)
		pause(ctx, rand.N(30*time.Millisecond))
	}
}

func (w *worker) write(n int, lock string, session *relukko.Session) {
	token := session.Info().FencingToken
	taken, err := w.register.write(lock, token, fmt.Sprintf("%s/%d", w.Name, n))
	if err != nil {
		w.fault(n, "the register of %s: %v", lock, err)
	}
	if taken || session.Err() != nil {
		return
	}
	// The register has a later holder's token, and after that this one's
	// session still says that it is the holder: right only if somebody has
	// deleted the lock by hand, which the journal's reader knows.
	w.journal.note(event{At: now(), Kind: refused, Stay: n})
}

//go:build linux

package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// workerEnv has the test binary be a worker: a workerConfig in JSON.
const workerEnv = "RELUKKO_STREAM_WORKER"

// workerConfig says what a worker does: it calls Lock for name-0, name-1, …, each on a goroutine.
type workerConfig struct {
	Pool    []string // not nil: its goroutines share a pool instead
	Several []string // not nil: they lock some of these names instead
	Nests   bool     // some lock one while they hold another
	URL     string
	Name    string
	Count   int
	TTL     time.Duration
	Creator string
}

// report is a line that a worker prints.
type report struct {
	Event  string // "ready" before Lock, "locked" after each, "usage" for each line of its input
	Usage  usage
	Locked int // locks that are held
	Lost   int // of these, those that were lost
}

// workerMain is main of a worker. It ends when its standard input does, without releasing anything.
func workerMain(config string) int {
	var w workerConfig
	if err := json.Unmarshal([]byte(config), &w); err != nil {
		panic(err)
	}
	client, err := api.New(w.URL, apiKey)
	if err != nil {
		panic(err)
	}
	switch chaos := (&chaosWorker{workerConfig: &w, client: client}); {
	case w.Pool != nil:
		return chaos.pool()
	case w.Several != nil:
		return chaos.several()
	}
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(report{Event: "ready", Usage: usageNow()})
	sessions := make(chan *relukko.Session, w.Count)
	for i := range w.Count {
		name := fmt.Sprint(w.Name, "-", i)
		m := relukko.NewMutex(client, name, relukko.WithTTL(w.TTL),
			relukko.WithCreator(w.Creator))
		go func() {
			held, err := m.Lock(context.Background())
			if err != nil {
				panic(err)
			}
			s, _ := relukko.FromContext(held)
			sessions <- s
			if w.Count == 1 {
				_ = out.Encode(report{Event: "locked"})
			}
		}()
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		r := report{Event: "usage", Usage: usageNow(), Locked: len(sessions)}
		for range r.Locked {
			s := <-sessions
			if s.Err() != nil {
				r.Lost++
			}
			sessions <- s
		}
		_ = out.Encode(r)
	}
	return 0
}

// worker is a worker's process.
type worker struct {
	*process
	t      testing.TB
	stdin  io.WriteCloser
	stdout *json.Decoder
	before usage // before the first Lock
}

// startWorker starts a worker, which ends with the test, and returns when it is about to call Lock.
func startWorker(t testing.TB, config workerConfig) *worker {
	t.Helper()
	w := startProcess(t, config)
	w.before = w.next("ready").Usage
	return w
}

// startProcess starts a worker, which ends with the test.
func startProcess(t testing.TB, config workerConfig) *worker {
	t.Helper()
	b, err := json.Marshal(config)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerEnv+"="+string(b))
	cmd.Stderr = os.Stderr
	w := &worker{t: t}
	w.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	// Not cmd.StdoutPipe, which cmd.Wait closes.
	r, out, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = out
	w.stdout = json.NewDecoder(r)
	w.process, err = launch(cmd)
	out.Close()
	require.NoError(t, err)
	t.Cleanup(func() {
		w.kill()
		r.Close()
		w.stdin.Close()
	})
	return w
}

// next returns the worker's next report, which is of that event.
func (w *worker) next(event string) (r report) {
	w.t.Helper()
	require.NoError(w.t, w.stdout.Decode(&r))
	require.Equal(w.t, event, r.Event)
	return r
}

// usage asks the worker what it uses and what it holds.
func (w *worker) usage() report {
	w.t.Helper()
	_, err := io.WriteString(w.stdin, "\n")
	require.NoError(w.t, err)
	return w.next("usage")
}

func (w *worker) kill() { w.end(9) }

// usage is what this process uses, without garbage.
type usage struct {
	Heap, Stacks uint64 // bytes
	Goroutines   int
}

func usageNow() usage {
	debug.FreeOSMemory() // the second collection shrinks stacks and empties pools
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, m.StackInuse, runtime.NumGoroutine()}
}

// per describes what each of n things costs that did not exist before.
func (u usage) per(n int, before usage) string {
	return fmt.Sprintf("%d bytes of heap, %d of stacks, %.2f goroutines",
		(int(u.Heap)-int(before.Heap))/n, (int(u.Stacks)-int(before.Stacks))/n,
		float64(u.Goroutines-before.Goroutines)/float64(n))
}

// locking is a Lock in the background.
type locking struct {
	m    *relukko.Mutex
	g    errgroup.Group
	at   time.Time
	held context.Context
}

// lockSoon calls Lock in the background.
func lockSoon(t testing.TB, c *api.Client, name string, opts ...relukko.Option) *locking {
	l := &locking{m: relukko.NewMutex(c, name, opts...)}
	ctx, cancel := context.WithCancelCause(context.Background())
	t.Cleanup(func() { cancel(nil) })
	l.g.Go(func() (err error) {
		late := time.AfterFunc(patience, func() { cancel(errors.New("not acquired in time")) })
		defer late.Stop()
		l.held, err = l.m.Lock(ctx)
		l.at = time.Now()
		return err
	})
	return l
}

// wait waits for the lock and returns when it was acquired.
func (l *locking) wait(t testing.TB) time.Time {
	t.Helper()
	require.NoError(t, l.g.Wait())
	return l.at
}

// unlock waits for the lock, and releases it.
func (l *locking) unlock(t testing.TB) {
	t.Helper()
	l.wait(t)
	require.NoError(t, l.m.Unlock(l.held))
}

package relukko_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// The figures in the documentation are measured by
//
//	go test -count=1 -v -run 'TestMany(Locks|Sections)' -held 10000 -hold 1m -sections 10000 .
var (
	heldLocks = flag.Int("held", 2000, "`number` of locks in TestManyLocksHeldAtOnce")
	holdFor   = flag.Duration("hold", 2*time.Second, "how long TestManyLocksHeldAtOnce holds them")
	sections  = flag.Int("sections", 2000, "`number` of sections in TestManySections…")
)

// usage is what this process uses, without garbage.
type usage struct {
	Heap, Stacks uint64 // bytes
	Goroutines   int
	Files        int // 0 if unknown
}

func usageNow() usage {
	debug.FreeOSMemory() // the second collection shrinks stacks and empties pools
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd")
	return usage{m.HeapAlloc, m.StackInuse, runtime.NumGoroutine(), len(files)}
}

func (u usage) String() string {
	return fmt.Sprintf("%.1f MB of heap, %.1f MB of stacks, %d goroutines, %d files",
		float64(u.Heap)/1e6, float64(u.Stacks)/1e6, u.Goroutines, u.Files)
}

// TestManyLocksHeldAtOnce requires that a held lock costs memory only between two heartbeats: a
// process may hold thousands. The backend runs in another process, so that only the client is
// measured.
func TestManyLocksHeldAtOnce(t *testing.T) {
	n := *heldLocks
	backend := startBackend(t)
	before := usageNow()
	c, err := api.New(backend.URL, "key")
	require.NoError(t, err)

	var g errgroup.Group
	g.SetLimit(32)
	mutexes := make([]*relukko.Mutex, n)
	sessions := make([]*relukko.Session, n)
	start := time.Now()
	for i := range n {
		g.Go(func() error {
			mutexes[i] = relukko.NewMutex(c, fmt.Sprint("arm-", i), relukko.WithCreator("limits"))
			held, err := mutexes[i].Lock(t.Context())
			if err == nil {
				sessions[i], _ = relukko.FromContext(held)
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	t.Logf("%d locks in %v", n, time.Since(start).Round(time.Millisecond))
	early := usageNow()
	held := time.NewTimer(*holdFor)
	defer held.Stop()
	<-held.C
	var during usage
	idle := func() bool { // a lock has a goroutine only while a heartbeat is in flight
		during = usageNow()
		return during.Goroutines-before.Goroutines < 2*(during.Files-before.Files)+n/10+50
	}
	require.Eventually(t, idle, time.Minute, 100*time.Millisecond, "a goroutine for each lock")
	for i := range n {
		require.NoError(t, sessions[i].Err(), "lock %d", i)
		g.Go(func() error { return mutexes[i].Unlock(t.Context()) })
	}
	require.NoError(t, g.Wait())
	require.NoError(t, c.Shutdown(t.Context()))
	clear(mutexes)
	clear(sessions)
	var after usage
	ended := func() bool { // the goroutine of Eventually is one more
		after = usageNow()
		return after.Goroutines <= before.Goroutines+1 && after.Files <= before.Files
	}
	require.Eventually(t, ended, 10*time.Second, 10*time.Millisecond, "%v after %v", &after, before)

	t.Logf("before: %v", before)
	t.Logf("a lock just acquired: %s", early.per(n, before))
	t.Logf("a lock held for %v: %s", *holdFor, during.per(n, before))
	t.Logf("all of them: %v", during)
	t.Logf("after: %v", after)
	beats := backend.report(t).Beats
	busiest := slices.Max(beats)
	total := 0
	for _, b := range beats {
		total += b
	}
	t.Logf("%d heartbeats, at most %d in 100 ms", total, busiest)

	connections := during.Files - before.Files
	require.Less(t, int(during.Heap-before.Heap), n*8<<10+connections*24<<10, "bytes")
	require.Less(t, int(during.Stacks)-int(before.Stacks), n*2<<10+connections*24<<10, "bytes")
}

// per describes what each of n things costs that did not exist before.
func (u usage) per(n int, before usage) string {
	return fmt.Sprintf("%d bytes of heap, %d of stacks, %.2f goroutines, %.2f files",
		(int(u.Heap)-int(before.Heap))/n, (int(u.Stacks)-int(before.Stacks))/n,
		float64(u.Goroutines-before.Goroutines)/float64(n),
		float64(u.Files-before.Files)/float64(n))
}

// TestManySectionsLeaveNothingBehind runs many critical sections, with failures of all kinds. At
// the end, memory, goroutines and files are what they were at the start.
func TestManySectionsLeaveNothingBehind(t *testing.T) {
	const settle = time.Hour // until everything has expired

	plainly(t, "in memory", func(t *testing.T, s *relukkotest.Server) {
		h := s.HTTPClient()
		c, err := api.New(s.URL, s.APIKey, api.WithHTTPClient(h))
		require.NoError(t, err)
		m := relukko.NewMutex(c, "arm-8", relukko.WithTTL(2*time.Second))
		measure := func() usage {
			s.Heal()
			time.Sleep(settle)
			h.CloseIdleConnections()
			synctest.Wait()
			return usageNow()
		}
		outcomes := make(map[string]int)
		sectionsWithFailures(t, s, m, 200, true, outcomes)
		before := measure()
		clear(outcomes)
		sectionsWithFailures(t, s, m, *sections, true, outcomes)
		after := measure()
		t.Logf("%d sections: %v", *sections, outcomes)
		t.Logf("before: %v", before)
		t.Logf("after: %v", after)
		require.Greater(t, len(outcomes), 3, "the failures had effects")
		require.LessOrEqual(t, after.Goroutines, before.Goroutines)
		// The server is in this process, and has an entry of its history for each.
		require.Less(t, int(after.Heap)-int(before.Heap), 200_000+350**sections, "bytes")
		require.Empty(t, s.Locks())
		require.NoError(t, c.Shutdown(t.Context()))
	})
	t.Run("on loopback", func(t *testing.T) {
		s := relukkotest.NewServer(t)
		before := usageNow()
		c, err := api.New(s.URL, s.APIKey)
		require.NoError(t, err)
		var g errgroup.Group
		for i := range 8 {
			g.Go(func() error {
				m := relukko.NewMutex(c, fmt.Sprint("arm-", i), relukko.WithTTL(2*time.Second))
				sectionsWithFailures(t, s, m, *sections/100, false, make(map[string]int))
				return nil
			})
		}
		require.NoError(t, g.Wait())
		s.Heal()
		require.NoError(t, c.Shutdown(t.Context()))
		s.Stop()
		after := usageNow()
		t.Logf("before: %v", before)
		t.Logf("after: %v", after)
		require.LessOrEqual(t, after.Goroutines, before.Goroutines)
		require.LessOrEqual(t, after.Files, before.Files)
	})
}

const (
	quickFailures = 8  // these take no time
	allFailures   = 13 // the others do
)

// sectionsWithFailures runs m's section n times, half of them with a failure, and counts the
// outcomes. Failures that take time happen only if slow is set.
func sectionsWithFailures(
	t *testing.T, s *relukkotest.Server, m *relukko.Mutex, n int, slow bool,
	outcomes map[string]int,
) {
	seed, _ := strconv.ParseUint(strings.TrimPrefix(m.Name(), "arm-"), 10, 64)
	rnd := rand.New(rand.NewPCG(uint64(n), seed))
	kinds := quickFailures
	if slow {
		kinds = allFailures
	}
	for range n {
		ctx, cancel := context.WithCancel(context.Background())
		inside := time.Duration(0)
		if kind := rnd.IntN(2 * kinds); kind < kinds {
			inside = fail(s, m.Name(), kind, rnd, cancel)
		}
		outcomes[outcome(t, m, ctx, inside)]++
		cancel()
	}
}

// outcome locks m, stays inside for a while, and describes the result of Lock and Unlock.
func outcome(t *testing.T, m *relukko.Mutex, ctx context.Context, inside time.Duration) string {
	held, err := m.Lock(ctx)
	if err != nil {
		return "not locked"
	}
	select {
	case <-time.After(inside):
	case <-held.Done():
	}
	err = m.Unlock(held)
	switch {
	case errors.Is(err, relukko.ErrLockLost):
		return "lost: " + reason(err)
	case errors.Is(err, relukko.ErrNotReleased):
		return "not released"
	}
	require.NoError(t, err)
	return "released"
}

// fail injects a failure of this kind, and returns how long to stay inside to meet it.
func fail(
	s *relukkotest.Server, name string, kind int, rnd *rand.Rand, cancel func(),
) (inside time.Duration) {
	switch kind {
	case 0:
		s.FailNext(1+rnd.IntN(2), http.StatusServiceUnavailable)
	case 1:
		s.CutNext(1, relukkotest.On("POST", ""))
	case 2:
		s.CutNext(1, relukkotest.On("DELETE", ""))
	case 3:
		s.Cut()
	case 4:
		s.DropWebSockets()
	case 5:
		time.AfterFunc(time.Duration(rnd.IntN(1000))*time.Microsecond, cancel)
	case 6:
		s.AnswerNext(1, nil,
			relukkotest.Answer{Status: http.StatusOK, Body: "<html>Please sign in"})
	case 7:
		cancel()
	case 8:
		inside = 3 * time.Second
		time.AfterFunc(2*time.Second, func() { s.Delete(name) })
	case 9:
		s.GoDark()
		time.AfterFunc(time.Duration(rnd.IntN(20))*time.Second, s.ComeBack)
	case 10:
		inside = 5 * time.Second
		time.AfterFunc(time.Second, s.GoDark)
		time.AfterFunc(time.Duration(rnd.IntN(20))*time.Second, s.ComeBack)
	case 11:
		s.Stop()
		time.AfterFunc(2*time.Second, func() { s.Start(true) })
	case 12:
		inside = time.Minute
	}
	return inside
}

func reason(err error) string {
	var lost *relukko.LostError
	errors.As(err, &lost)
	return lost.Reason.String()
}

// backendProcess is a backend in another process.
type backendProcess struct {
	URL string
	in  io.Writer
	out *bufio.Scanner
}

// backendReport is what a backendProcess writes for each line that it reads.
type backendReport struct {
	URL   string
	Beats []int // heartbeats in each 100 ms since the first one
}

const backendEnv = "RELUKKO_TEST_BACKEND"

func startBackend(t *testing.T) *backendProcess {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^TestBackendProcess$")
	cmd.Env = append(os.Environ(), backendEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		require.NoError(t, cmd.Wait())
	})
	b := &backendProcess{in: in, out: bufio.NewScanner(out)}
	b.out.Buffer(nil, 1<<20)
	b.URL = b.report(t).URL
	return b
}

// report asks the process for its report.
func (b *backendProcess) report(t *testing.T) (r backendReport) {
	_, err := fmt.Fprintln(b.in)
	require.NoError(t, err)
	require.True(t, b.out.Scan(), "the backend has ended: %v", b.out.Err())
	require.NoError(t, json.Unmarshal(b.out.Bytes(), &r))
	return r
}

// TestBackendProcess is the main function of a backendProcess. In the process of the tests it does
// nothing.
func TestBackendProcess(t *testing.T) {
	if os.Getenv(backendEnv) == "" {
		return
	}
	backend := server.New(memstore.New(), server.WithAPIKeys("key"))
	defer backend.Shutdown(t.Context())
	var mu sync.Mutex
	var first time.Time
	var beats []int
	web := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/stream" {
			http.NotFound(w, r) // so that the heartbeats can be counted
			return
		}
		if relukkotest.On("PUT", "/v1/locks/{id}/keep_alive")(r) {
			mu.Lock()
			if first.IsZero() {
				first = time.Now()
			}
			i := int(time.Since(first) / (100 * time.Millisecond))
			for len(beats) <= i {
				beats = append(beats, 0)
			}
			beats[i]++
			mu.Unlock()
		}
		backend.ServeHTTP(w, r)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go web.Serve(l)
	defer web.Close()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		mu.Lock()
		report, err := json.Marshal(backendReport{"http://" + l.Addr().String(), beats})
		mu.Unlock()
		require.NoError(t, err)
		fmt.Printf("%s\n", report)
	}
}

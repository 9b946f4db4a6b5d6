//go:build linux

package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// holders are clients with one lock each.
type holders struct {
	mutexes []*relukko.Mutex
	held    []context.Context
}

func hold(t testing.TB, n int, client func() *api.Client, opts ...relukko.Option) *holders {
	t.Helper()
	h := &holders{held: make([]context.Context, n)}
	var g errgroup.Group
	for i := range n {
		m := relukko.NewMutex(client(), fmt.Sprint("held-", i), opts...)
		h.mutexes = append(h.mutexes, m)
		g.Go(func() (err error) {
			h.held[i], err = m.Lock(t.Context())
			return err
		})
	}
	require.NoError(t, g.Wait())
	return h
}

// release requires that no lock was lost, and releases all.
func (h *holders) release(t testing.TB) {
	t.Helper()
	errs := make([]error, len(h.mutexes))
	var releasing sync.WaitGroup
	for i, m := range h.mutexes {
		releasing.Go(func() { errs[i] = m.Unlock(h.held[i]) })
	}
	releasing.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	require.Empty(t, errs, "%d of %d locks", len(errs), len(h.mutexes))
}

// create creates n locks by plain requests.
func create(t testing.TB, url string, n int) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer c.CloseIdleConnections()
	var g errgroup.Group
	g.SetLimit(64)
	for i := range n {
		g.Go(func() error {
			a, err := request(t.Context(), c, "POST", url+"/v1/locks/",
				fmt.Sprintf(`{"lock_name":"other-%d","creator":null}`, i))
			if err == nil && a.status != http.StatusCreated {
				err = fmt.Errorf("status %d: %s", a.status, a.body)
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
}

// TestRestartAmongManyLocksLosesNone restarts a server that has many locks. Those that are held
// over the stream are renewed in time, and cost the server no time that depends on the others.
func TestRestartAmongManyLocksLosesNone(t *testing.T) {
	locks, clients := scaled(3000, 20_000), scaled(30, 100)
	watched := scaled(6*time.Second, 10*time.Second)
	n := serve(t, boltStore(t))
	create(t, n.url, locks)
	h := hold(t, clients, func() *api.Client { return newClient(t, n.url) },
		relukko.WithTTL(5*time.Second))
	parallel(t)
	n.stop(syscall.SIGTERM)
	n.start()
	pause(watched)
	used := n.cpu() // from the start of its process
	h.release(t)
	fmt.Printf("%s: %d locks, %d clients, none lost; the server used %v in %v\n", t.Name(), locks,
		clients, used, watched)
	require.Less(t, used, 2*time.Second)
}

// TestRestartOfTheOriginalLosesNone is the same with a backend without extensions, whose
// broadcasts do not say which lock was deleted: each may be about any.
func TestRestartOfTheOriginalLosesNone(t *testing.T) {
	parallel(t)
	locks, clients := scaled(3000, 20_000), scaled(20, 100)
	ms := memstore.New()
	for i := range locks {
		_, err := ms.Create(t.Context(), store.NewLock{
			ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Name: fmt.Sprint("other-", i),
			TTL: 10 * time.Minute,
		})
		require.NoError(t, err)
	}
	s := relukkotest.NewServer(t, relukkotest.Store(func() store.Store { return ms }),
		relukkotest.Backend(httpapi.LikeOriginal(httpapi.Original{})))
	h := hold(t, clients, func() *api.Client { return s.Client() },
		relukko.WithTTL(5*time.Second))
	s.Stop()
	s.Start(true)
	plain := s.HTTPClient()
	deleted := 0
	for end := time.Now().Add(scaled(6*time.Second, 10*time.Second)); time.Now().Before(end); {
		a, err := request(t.Context(), plain, "DELETE", fmt.Sprintf(
			"%s/v1/locks/00000000-0000-4000-8000-%012d", s.URL, deleted), "", "X-API-KEY", s.APIKey)
		require.NoError(t, err)
		require.Equal(t, 200, a.status, a.body)
		deleted++
		pause(50 * time.Millisecond)
	}
	lists := s.Requests("GET", "/v1/locks/{$}")
	h.release(t)
	fmt.Printf("%s: %d locks, %d clients, %d broadcasts, none lost, %d lists\n", t.Name(), locks,
		clients, deleted, lists)
}

// counted is a server in this process that counts its connections.
type counted struct {
	*http.Server
	url   string
	conns atomic.Int32
}

func serveHere(t testing.TB, st store.Store) *counted {
	t.Helper()
	backend := server.New(st, server.WithAPIKeys(apiKey))
	s := &counted{Server: &http.Server{Handler: backend}}
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.url = "http://" + l.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, backend.Shutdown(ctx))
		require.NoError(t, s.Close())
		serving.Wait()
	})
	return s
}

// TestManyWaitersOfOneProcess measures what a waiter costs on each side. It does not run in
// parallel with others, whose memory would count.
func TestManyWaitersOfOneProcess(t *testing.T) {
	n := scaled(1000, 5000)
	ms := memstore.New()
	s := serveHere(t, ms)
	for i := range n {
		_, err := ms.Create(t.Context(), store.NewLock{
			ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Name: fmt.Sprint("waited-", i),
			TTL: time.Hour,
		})
		require.NoError(t, err)
	}
	before := usageNow()
	w := startWorker(t, workerConfig{URL: s.url, Name: "waited", Count: n, TTL: time.Minute,
		Creator: "waiter"})
	await(t, "all wait", func() bool { return waitingCount(t, s.url) == n })
	http.DefaultClient.CloseIdleConnections()
	client, here := w.usage(), usageNow()
	require.Zero(t, client.Locked)
	conns := s.conns.Load() - 1 // that of GET /v1/waiting/
	fmt.Printf("%s: %d waiters, %d connections\n  client: %s\n  server: %s\n", t.Name(), n, conns,
		client.Usage.per(n, w.before), here.per(n, before))
	require.LessOrEqual(t, conns, int32(2)) // one, unless a plain request came before it
}

func waitingCount(t testing.TB, url string) int {
	t.Helper()
	a, err := request(t.Context(), http.DefaultClient, "GET", url+"/v1/waiting/", "")
	require.NoError(t, err)
	var all []waiter
	require.NoError(t, json.Unmarshal([]byte(a.body), &all), a.body)
	return len(all)
}

// TestManyLocksHeldOverOneStream holds many locks in one process, and renews them.
func TestManyLocksHeldOverOneStream(t *testing.T) {
	n, ttl := scaled(2000, 10_000), scaled(6*time.Second, time.Minute)
	s := serveHere(t, memstore.New())
	w := startWorker(t, workerConfig{URL: s.url, Name: "held", Count: n, TTL: ttl,
		Creator: "holder"})
	began := time.Now()
	await(t, "all are held", func() bool { return w.usage().Locked == n })
	took := time.Since(began)
	pause(scaled(2*time.Second, time.Minute))
	var before, after syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &before))
	length := scaled(time.Second, 10*time.Second)
	pause(length)
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &after))
	r := w.usage()
	require.Equal(t, n, r.Locked)
	require.Zero(t, r.Lost)
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() -
		before.Stime.Nano())
	fmt.Printf("%s: %d locks of TTL %v within %v, %d connections, none lost; the server used "+
		"%.1f %% of a processor\n  client: %s\n", t.Name(), n, ttl, took.Round(time.Millisecond),
		s.conns.Load(), 100*used.Seconds()/length.Seconds(), r.Usage.per(n, w.before))
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// Relukko with its default settings, on each store.
var (
	relukkoMemory = peer{
		name: "memory", label: "Relukko, memory", store: "memory",
		start: func(s *site) (service, error) { return startRelukko(s, "memory", anyPort) },
	}
	relukkoUnix = peer{
		name: "unix", label: "Relukko, memory, on a Unix socket", store: "memory",
		only: []string{"uncontended", "pinned-1", "pinned-2", "handoff", "handoff-warm", "owners",
			"names"},
		start: func(s *site) (service, error) {
			return startRelukko(s, "memory", "unix:"+filepath.Join(s.dir, "relukko.sock"))
		},
	}
	relukkoBolt = peer{
		name: "bolt", label: "Relukko, bbolt", store: "disk",
		start: func(s *site) (service, error) {
			dir, err := s.folder("bolt")
			if err != nil {
				return nil, err
			}
			return startRelukko(s, "bolt:"+filepath.Join(dir, "locks.db"), anyPort)
		},
	}
	relukkoPostgres = peer{
		name: "postgres", label: "Relukko, PostgreSQL", store: "disk",
		start: func(s *site) (service, error) {
			url, err := s.database("relukko")
			if err != nil {
				return nil, err
			}
			r, err := startRelukko(s, url, anyPort)
			if err == nil {
				r.database = s.postgres
			}
			return r, err
		},
	}
)

const apiKeyEnv = "RELUKKO_API_KEY"

// relukkoService is a Relukko server.
type relukkoService struct {
	process *process
	url     string
	key     string

	plain    bool      // our client uses plain requests
	database *postgres // of its store; nil: none

	// A proxy in this process that counts requests and messages.
	proxy *httptest.Server
	count atomic.Int64
}

const anyPort = "127.0.0.1:0"

func startRelukko(s *site, store, addr string) (*relukkoService, error) {
	program, err := s.program()
	if err != nil {
		return nil, err
	}
	return newRelukkoService(program, "serve", "--addr", addr, "--store", store)
}

// newRelukkoService runs a command that is a Relukko server and prints its address
// as `relukko serve` does.
func newRelukkoService(args ...string) (*relukkoService, error) {
	s := &relukkoService{key: strings.ToLower(rand.Text())}
	const listening = "listening on "
	process, line, err := start(command{args: args, env: []string{apiKeyEnv + "=" + s.key},
		stop: syscall.SIGTERM, ready: listening})
	if err != nil {
		return nil, err
	}
	s.process = process
	_, rest, _ := strings.Cut(line, listening)
	s.url, _, _ = strings.Cut(rest, ",")
	target, err := url.Parse(s.url)
	if err != nil {
		return nil, errors.Join(err, process.stop())
	}
	forward := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      &http.Transport{MaxIdleConnsPerHost: 1000},
		ModifyResponse: s.countMessages,
		ErrorLog:       log.New(io.Discard, "", 0), // clients that leave while they wait
	}
	s.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count.Add(1)
		forward.ServeHTTP(w, r)
	}))
	return s, nil
}

func (s *relukkoService) connect(_ context.Context, counted bool) (client, error) {
	url := s.url
	if counted {
		url = s.proxy.URL
	}
	c, err := api.New(url, s.key)
	return &relukkoClient{c}, err
}

// countMessages counts what goes over a WebSocket, if the answer opens one.
func (s *relukkoService) countMessages(answer *http.Response) error {
	if conn, ok := answer.Body.(io.ReadWriteCloser); ok {
		answer.Body = &countedSocket{
			ReadWriteCloser: conn,
			down:            frameCounter{count: &s.count},
			up:              frameCounter{count: &s.count},
		}
	}
	return nil
}

func (s *relukkoService) pids() []int {
	pids := s.process.tree()
	if s.database != nil {
		pids = append(pids, s.database.process.tree()...)
	}
	return pids
}

// requests counts HTTP requests, opening a WebSocket among them, and the frames of WebSockets in
// both directions, pings and pongs among them.
func (s *relukkoService) requests(context.Context) (float64, error) {
	return float64(s.count.Load()), nil
}

func (s *relukkoService) version() string { return "" }

func (s *relukkoService) close() error {
	s.proxy.CloseClientConnections()
	s.proxy.Close()
	return s.process.stop()
}

type relukkoClient struct{ api *api.Client }

// lockers share one Mutex, as its documentation advises.
func (c *relukkoClient) lockers(_ context.Context, name string, n int) ([]locker, error) {
	return share(relukko.NewMutex(c.api, name), n), nil
}

// handingOn returns lockers that hand the held lock on inside the process.
func (c *relukkoClient) handingOn(name string, n int) []locker {
	return share(relukko.NewMutex(c.api, name, relukko.WithHandoff()), n)
}

// poolLockers implements [poolClient]. The goroutines share one Pool.
func (c *relukkoClient) poolLockers(_ context.Context, names []string, n int,
) (all []poolLocker, err error) {
	p := relukko.NewPool(c.api, names)
	for range n {
		all = append(all, &relukkoPoolLocker{pool: p, names: names})
	}
	return all, nil
}

func share(m *relukko.Mutex, n int) []locker {
	all := make([]locker, n)
	for i := range all {
		all[i] = &relukkoLocker{mutex: m}
	}
	return all
}

func (c *relukkoClient) close() error { return c.api.Close() }

type relukkoLocker struct {
	mutex *relukko.Mutex
	held  context.Context
}

func (l *relukkoLocker) lock(ctx context.Context) (err error) {
	l.held, err = l.mutex.Lock(ctx)
	return err
}

// unlock fails also when the lock was lost meanwhile.
func (l *relukkoLocker) unlock() error { return l.mutex.Unlock(l.held) }

// relukkoPoolLocker is one goroutine's use of a Pool.
type relukkoPoolLocker struct {
	pool  *relukko.Pool
	names []string
	held  context.Context
}

func (l *relukkoPoolLocker) lock(ctx context.Context) (err error) {
	l.held, err = l.pool.Lock(ctx)
	return err
}

func (l *relukkoPoolLocker) member() int {
	s, _ := relukko.FromContext(l.held)
	return slices.Index(l.names, s.Name())
}

func (l *relukkoPoolLocker) unlock() error { return l.pool.Unlock(l.held) }

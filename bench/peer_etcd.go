package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// etcd is one member with the default settings of its own program, on disk and
// with fsync. A Mutex belongs to a session, and two goroutines that lock one name
// in one session would both hold it (the key is the name and the lease). So each
// goroutine has a session on the process's client, with the default lease of 60 s.
var etcd = peer{
	name: "etcd", label: "etcd concurrency.Mutex", store: "disk",
	notes: []string{
		"A new waiter may be served up to 100 ms late, because etcd catches new watches up ten " +
			"times a second. The scenario handoff spares it that, the others don't.",
		"Goroutines of one process have a session each: within one session they would not " +
			"exclude each other.",
	},
	start: startEtcd,
}

type etcdService struct {
	process *process
	url     string
}

func startEtcd(s *site) (service, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := s.folder("etcd")
	if err != nil {
		return nil, err
	}
	const ready = "etcd: http://"
	process, line, err := start(command{args: []string{self, roleEtcd, dir}, stop: syscall.SIGTERM,
		ready: ready})
	return &etcdService{process, strings.TrimPrefix(line, "etcd: ")}, err
}

// serveEtcd is the server's process.
func serveEtcd(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: FOLDER")
	}
	cfg := embed.NewConfig()
	cfg.Dir = args[0]
	cfg.LogLevel = "error"
	var ports [2]string
	for i := range ports {
		port, err := freePort()
		if err != nil {
			return err
		}
		ports[i] = port
	}
	clients, peers := url.URL{Scheme: "http",
		Host: "127.0.0.1:" + ports[0]}, url.URL{Scheme: "http", Host: "127.0.0.1:" + ports[1]}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	select {
	case <-e.Server.ReadyNotify():
		fmt.Println("etcd: " + clients.String())
	case <-time.After(startTimeout):
		return errors.New("etcd is not ready")
	}
	return <-e.Err() // SIGTERM ends the process
}

func (s *etcdService) connect(context.Context, bool) (client, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url}, DialTimeout: 5 * time.Second,
		Logger: zap.NewNop()})
	return &etcdClient{client: c}, err
}

// requests counts the messages that clients have sent, including those on a
// stream that keep a lease alive.
func (s *etcdService) requests(ctx context.Context) (float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	sum, found := 0.0, false
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "grpc_server_msg_received_total{") {
			continue
		}
		fields := strings.Fields(lines.Text())
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+n, true
	}
	if !found {
		return 0, errors.New("etcd's metrics have no grpc_server_msg_received_total")
	}
	return sum, nil
}

func (s *etcdService) pids() []int { return s.process.tree() }

func (s *etcdService) version() string {
	return "etcd " + moduleVersion("go.etcd.io/etcd/server/v3") + ", client " +
		moduleVersion("go.etcd.io/etcd/client/v3")
}

func (s *etcdService) close() error { return s.process.stop() }

type etcdClient struct {
	client   *clientv3.Client
	sessions []*concurrency.Session
}

func (c *etcdClient) lockers(_ context.Context, name string, n int) ([]locker, error) {
	return each(n, func() (locker, error) {
		session, err := concurrency.NewSession(c.client)
		if err != nil {
			return nil, err
		}
		c.sessions = append(c.sessions, session)
		return &etcdLocker{concurrency.NewMutex(session, name)}, nil
	})
}

// close revokes no lease: a hundred of them take seconds, and the name is free
// without that.
func (c *etcdClient) close() error {
	for _, s := range c.sessions {
		s.Orphan()
	}
	return c.client.Close()
}

type etcdLocker struct{ mutex *concurrency.Mutex }

func (l *etcdLocker) lock(ctx context.Context) error { return l.mutex.Lock(ctx) }

func (l *etcdLocker) unlock() error { return l.mutex.Unlock(context.Background()) }

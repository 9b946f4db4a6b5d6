package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// redisServer is a private Redis on loopback, without persistence: a crash loses
// its locks. Each library has its own, so that its requests can be counted.
type redisServer struct {
	process *process
	addr    string
	release string // of the server

	asker *redis.Client
	asked float64 // of the requests that the server counts, ours
}

func startRedis(s *site) (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, absence("redis-server is not installed")
	}
	dir, err := s.folder("redis")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	process, _, err := start(command{
		args: []string{program, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "",
			"--appendonly", "no"},
		stop:  syscall.SIGTERM,
		ready: "Ready to accept connections",
	})
	if err != nil {
		return nil, err
	}
	r := &redisServer{process: process, addr: "127.0.0.1:" + port}
	r.asker = redis.NewClient(&redis.Options{Addr: r.addr, PoolSize: 1})
	r.release, err = r.info(context.Background(), "server", "redis_version")
	return r, err
}

// requests counts what the server has read: clients that wait for each answer,
// as pollers do, send one command at a time.
func (r *redisServer) requests(ctx context.Context) (float64, error) {
	r.asked++
	text, err := r.info(ctx, "stats", "total_reads_processed")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(text, 64)
	return n - r.asked, err
}

func (r *redisServer) info(ctx context.Context, section, field string) (string, error) {
	text, err := r.asker.Info(ctx, section).Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("redis reports no %s", field)
}

func (r *redisServer) pids() []int { return r.process.tree() }

func (r *redisServer) close() error { return errors.Join(r.asker.Close(), r.process.stop()) }

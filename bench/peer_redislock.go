package main

import (
	"context"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// redisLock pauses 100 ms between two tries, as the package's example does.
var redisLock = peer{
	name: "redislock", label: "redislock", store: "memory", notes: []string{noRenewal},
	start: func(s *site) (service, error) {
		r, err := startRedis(s)
		return &redislockService{r}, err
	},
}

type redislockService struct{ *redisServer }

func (s *redislockService) connect(context.Context, bool) (client, error) {
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	return &redislockClient{redislock.New(c), c}, nil
}

func (s *redislockService) version() string {
	return "redislock " + moduleVersion("github.com/bsm/redislock") + " over go-redis " +
		moduleVersion("github.com/redis/go-redis/v9") + ", Redis " + s.release
}

type redislockClient struct {
	from  *redislock.Client
	redis *redis.Client
}

func (c *redislockClient) lockers(_ context.Context, name string, n int) ([]locker, error) {
	return each(n, func() (locker, error) {
		return &redislockLocker{from: c.from, name: name}, nil
	})
}

func (c *redislockClient) close() error { return c.redis.Close() }

type redislockLocker struct {
	from *redislock.Client
	name string
	held *redislock.Lock
}

func (l *redislockLocker) lock(ctx context.Context) (err error) {
	l.held, err = l.from.Obtain(ctx, l.name, redisExpiry, &redislock.Options{
		RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond),
	})
	return err
}

func (l *redislockLocker) unlock() error { return l.held.Release(context.Background()) }

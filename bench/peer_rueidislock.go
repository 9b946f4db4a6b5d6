package main

import (
	"context"
	"errors"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

// rueidisLock has the settings of its README: one key, because there is one
// Redis, and NoLoopTracking for better performance. It renews by itself, and
// waits for a notification from Redis that the key has changed.
var rueidisLock = peer{
	name: "rueidislock", label: "rueidislock", store: "memory",
	notes: []string{"After an attempt that Redis has not answered within 20 ms (TryNextAfter, " +
		"the default) it retries only when another client has changed the lock. On a busy " +
		"machine all clients can then wait for a free lock; 0 or \"failed\" is that."},
	start: func(s *site) (service, error) {
		r, err := startRedis(s)
		return &rueidisService{r}, err
	},
}

type rueidisService struct{ *redisServer }

func (s *rueidisService) connect(context.Context, bool) (client, error) {
	l, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption:   rueidis.ClientOption{InitAddress: []string{s.addr}},
		KeyMajority:    1,
		NoLoopTracking: true,
	})
	return &rueidisClient{l}, err
}

func (s *rueidisService) version() string {
	return "rueidislock " + moduleVersion("github.com/redis/rueidis") + ", Redis " + s.release
}

type rueidisClient struct{ rueidislock.Locker }

func (c *rueidisClient) lockers(_ context.Context, name string, n int) ([]locker, error) {
	return each(n, func() (locker, error) {
		return &rueidisLocker{from: c.Locker, name: name}, nil
	})
}

func (c *rueidisClient) close() error {
	c.Locker.Close()
	return nil
}

type rueidisLocker struct {
	from rueidislock.Locker
	name string

	ctx, held context.Context
	free      context.CancelFunc
}

func (l *rueidisLocker) lock(ctx context.Context) (err error) {
	l.ctx = ctx
	l.held, l.free, err = l.from.WithContext(ctx, l.name)
	return err
}

func (l *rueidisLocker) unlock() error {
	var lost error
	if l.held.Err() != nil && l.ctx.Err() == nil {
		lost = errors.New("the lock was lost inside")
	}
	l.free() // returns when the key is deleted
	return lost
}

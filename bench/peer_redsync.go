package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// redisExpiry is how long a lock of redsync and redislock lives. Neither renews
// it by itself, so it must be longer than any section here.
const redisExpiry = 2 * time.Minute

const noRenewal = "It does not renew by itself: a lock that is held for longer than its expiry " +
	"is lost, unless the program renews it. " +
	"Here the expiry is 2 min, longer than any section, so that its figures include no loss."

// redSync has redsync's defaults, the pause of 50 to 250 ms between two tries
// included, but as many tries as it takes: with 32, a Lock fails after 5 s.
var redSync = peer{
	name: "redsync", label: "redsync", store: "memory", notes: []string{noRenewal},
	start: func(s *site) (service, error) {
		r, err := startRedis(s)
		return &redsyncService{r}, err
	},
}

type redsyncService struct{ *redisServer }

func (s *redsyncService) connect(context.Context, bool) (client, error) {
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	return &redsyncClient{redsync.New(goredis.NewPool(c)), c}, nil
}

func (s *redsyncService) version() string {
	return "redsync " + moduleVersion("github.com/go-redsync/redsync/v4") + " over go-redis " +
		moduleVersion("github.com/redis/go-redis/v9") + ", Redis " + s.release
}

type redsyncClient struct {
	from  *redsync.Redsync
	redis *redis.Client
}

func (c *redsyncClient) lockers(_ context.Context, name string, n int) ([]locker, error) {
	return each(n, func() (locker, error) {
		return &redsyncLocker{c.from.NewMutex(
			name, redsync.WithExpiry(redisExpiry), redsync.WithTries(math.MaxInt))}, nil
	})
}

// poolLockers implements [poolClient]. There is no queue, so the locks are tried one after the
// other, and again after redsync's own pause.
func (c *redsyncClient) poolLockers(_ context.Context, names []string, n int,
) (all []poolLocker, err error) {
	for range n {
		l := &redsyncPoolLocker{}
		for _, name := range names {
			l.mutexes = append(l.mutexes, c.from.NewMutex(name, redsync.WithExpiry(redisExpiry)))
		}
		all = append(all, l)
	}
	return all, nil
}

func (c *redsyncClient) close() error { return c.redis.Close() }

type redsyncLocker struct{ mutex *redsync.Mutex }

func (l *redsyncLocker) lock(ctx context.Context) error { return l.mutex.LockContext(ctx) }

func (l *redsyncLocker) unlock() error {
	ok, err := l.mutex.Unlock()
	if err == nil && !ok {
		return errors.New("not held any more")
	}
	return err
}

// redsyncPoolLocker tries the locks in an order that begins at random.
type redsyncPoolLocker struct {
	mutexes []*redsync.Mutex
	held    int
}

func (l *redsyncPoolLocker) lock(ctx context.Context) error {
	for {
		from := rand.IntN(len(l.mutexes))
		for i := range l.mutexes {
			l.held = (from + i) % len(l.mutexes)
			err := l.mutexes[l.held].TryLockContext(ctx)
			if _, taken := errors.AsType[*redsync.ErrTaken](err); !taken {
				return err // or nil
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (l *redsyncPoolLocker) member() int { return l.held }

func (l *redsyncPoolLocker) unlock() error {
	return (&redsyncLocker{l.mutexes[l.held]}).unlock()
}

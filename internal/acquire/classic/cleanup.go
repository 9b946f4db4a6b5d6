package classic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

const (
	// cleanupFor bounds a cleanup: a lock that a create made without an answer
	// has expired by then, after 10 min and a grace of about 3 min.
	cleanupFor = 15 * time.Minute

	// proxyTime is for how long a proxy may answer by itself while its backend
	// restarts.
	proxyTime = 10 * time.Second
)

// lookAt is when a mark is looked for, counted from when the last create that
// bore it ended.
var lookAt = [...]time.Duration{0, time.Second, 5 * time.Second}

// cleanup deletes what the creates of one mark have made, or will make, after
// their call has ended. It is a task of the client for as long as it takes.
type cleanup struct {
	*parts
	name, mark string
	values     context.Context
	log        *slog.Logger
	running    *running // may be nil
	unanswered int      // creates besides that one
}

// start begins the cleanup in the background.
func (c *cleanup) start() {
	if err := c.tasks.Continue(c); err != nil {
		if c.running != nil {
			c.running.cancel()
		}
		return // the client was closed in a hurry, and said so
	}
	go c.run()
}

// Describe and Abandon are for Shutdown; the requests end with the client.
func (c *cleanup) Describe() string {
	return fmt.Sprintf("lock %q: the cleanup of a Lock that gave up", c.name)
}

func (c *cleanup) Abandon() {}

func (c *cleanup) run() {
	defer c.tasks.End(c)
	ctx, cancel := context.WithTimeout(c.tasks.Context(c.values), cleanupFor)
	defer cancel()
	if c.running != nil {
		defer c.running.cancel()
	}
	offered, err := c.callOff(ctx)
	if err == nil && !offered {
		err = c.seek(ctx)
	}
	if err != nil {
		c.log.Error("a lock may be left on the backend until it expires",
			"lock", c.name, "mark", c.mark, "error", err)
	}
}

// callOff asks the backend to call the mark off. It returns false where the
// backend cannot do that, or something before it does not let it through:
// immediately where the backend never offered it, else after proxyTime. When it
// returns true, no lock of the mark is left, and none will come to be.
func (c *cleanup) callOff(ctx context.Context) (offered bool, err error) {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	c.stopWhenNeverSent(stop)
	began, known, listed := time.Now(), c.client.CanCallOff(), false
	for {
		limited, cancel := context.WithTimeout(asking, proxyTime)
		err := c.client.CallOff(limited, c.mark, api.Once())
		late := limited.Err() != nil
		cancel()
		var e *api.Error
		switch {
		case err == nil:
			c.breakOff()
			return true, nil
		case ctx.Err() != nil:
			return false, err
		case asking.Err() != nil:
			return true, nil
		case api.Transient(err) || late:
			// Where a List is answered, and this again is not, it is not the
			// backend that is away.
			if listed {
				return false, nil
			}
			listed = time.Since(began) > proxyTime && c.listed(asking)
		case !errors.As(err, &e):
			return false, err
		case !known || acquire.Refused(err) || time.Since(began) > proxyTime:
			return false, nil // whether the key is good, a List tells
		}
		sleep(asking, time.Second)
	}
}

func (c *cleanup) listed(ctx context.Context) bool {
	_, err := c.lists.wait(ctx)
	return err == nil
}

// breakOff ends the create that is under way.
func (c *cleanup) breakOff() {
	if c.running != nil {
		c.running.cancel()
		<-c.running.done
	}
}

// stopWhenNeverSent calls stop when the create that is under way turns out
// never to have been sent and there is no other.
func (c *cleanup) stopWhenNeverSent(stop func()) {
	if c.running == nil {
		return
	}
	done, alone := make(chan created, 1), c.unanswered == 0
	go func(from <-chan created) {
		r := <-from
		if r.err != nil && api.NoEffect(r.err) && alone {
			stop()
		}
		done <- r
	}(c.running.done)
	c.running.done = done
}

// seek lets a create that is under way finish and deletes what it made. For
// every create without an answer it looks for the mark.
func (c *cleanup) seek(ctx context.Context) error {
	if c.running != nil {
		r := <-c.running.done
		switch {
		case r.err == nil:
			if err := c.delete(ctx, &r.lock); err != nil {
				return err
			}
		case !api.NoEffect(r.err):
			c.unanswered++
		}
	}
	began := time.Now()
	for i := 0; i < len(lookAt) && c.unanswered > 0; i++ {
		if !sleep(ctx, time.Until(began.Add(lookAt[i]))) {
			return context.Cause(ctx)
		}
		list, err := c.list(ctx)
		if err != nil {
			return err
		}
		for j := range list.locks {
			lock := &list.locks[j]
			if lock.Name != c.name || !bears(lock, c.mark) {
				continue
			}
			if err := c.delete(ctx, lock); err != nil {
				return err
			}
			c.unanswered--
		}
	}
	return nil
}

// list retries until the backend has listed its locks or refused to.
func (c *cleanup) list(ctx context.Context) (*listing, error) {
	for {
		list, err := c.lists.wait(ctx)
		if err == nil || acquire.Refused(err) || errors.Is(err, api.ErrClosed) ||
			!sleep(ctx, time.Second) {
			return list, err
		}
	}
}

func (c *cleanup) delete(ctx context.Context, lock *api.Lock) error {
	_, err := c.release(ctx, &acquire.Grant{Lock: *lock, Log: c.log}, cleanupFor)
	if errors.Is(err, api.ErrGone) {
		return nil
	}
	return err
}

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
	// cleanupFor limits a cleanup. By then a lock that was created has been swept: after 10 min and
	// a grace of about 3 min.
	cleanupFor = 15 * time.Minute

	// proxyTime is how long a proxy may respond by itself while its backend restarts.
	proxyTime = 10 * time.Second
)

// lookAt is when to look for a mark, counted from the end of the last create with that mark.
var lookAt = [...]time.Duration{0, time.Second, 5 * time.Second}

// cleanup deletes, after the end of a call, what the creates with its mark have made or will make.
// It is a task of the client.
type cleanup struct {
	*parts
	name, mark string
	values     context.Context
	log        *slog.Logger
	running    *running // the create that is under way; nil: none is
	unanswered int      // other creates whose outcome is unknown
}

// start runs the cleanup in the background.
func (c *cleanup) start() {
	if err := c.tasks.Continue(c); err != nil {
		if c.running != nil {
			c.running.cancel()
		}
		return // Shutdown has abandoned the client's tasks, and its error names them
	}
	go c.run()
}

// Describe implements [lifecycle.Job].
func (c *cleanup) Describe() string {
	return fmt.Sprintf("lock %q: the cleanup of a Lock that gave up", c.name)
}

// Abandon implements [lifecycle.Job]. It does nothing: the context of the cleanup ends with the
// client.
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
	if errors.Is(err, api.ErrClosed) {
		err = errors.New("the client was closed before the backend could be asked")
	}
	if err != nil {
		c.log.Error("a lock may be left on the backend until it expires",
			"lock", c.name, "mark", c.mark, "error", err)
	}
}

// callOff asks the backend to call off the creates with the mark. If it returns true, no lock with
// the mark is left and none will be created. It returns false if the backend cannot do that, or
// something on the way does not let the request through: immediately if the backend never offered
// it, else after proxyTime.
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
			// If a List succeeds and this fails again, the backend is up but cannot do this.
			if listed {
				return false, nil
			}
			listed = time.Since(began) > proxyTime && c.listed(asking)
		case !errors.As(err, &e):
			return false, err
		case !known || acquire.Refused(err) || time.Since(began) > proxyTime:
			return false, nil // seek finds out whether the backend refuses the key
		}
		sleep(asking, time.Second)
	}
}

func (c *cleanup) listed(ctx context.Context) bool {
	_, err := c.lists.wait(ctx)
	return err == nil
}

// breakOff cancels the create that is under way, and waits for its end.
func (c *cleanup) breakOff() {
	if c.running != nil {
		c.running.cancel()
		<-c.running.done
	}
}

// stopWhenNeverSent calls stop if there is nothing to clean up: the only create, which is under
// way, ends without having been sent.
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

// seek waits for a create that is under way and deletes what it made. Then it looks for locks with
// the mark in the list of all locks, until it has found one for each create without a response, or
// has looked at all times of lookAt.
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

// list retries a List until the backend responds or refuses.
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

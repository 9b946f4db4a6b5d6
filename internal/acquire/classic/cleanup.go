package classic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// cleanupFor limits a cleanup. By then a lock that was created has been swept: after 10 min and a
// grace of about 3 min.
const cleanupFor = 15 * time.Minute

// cleanup deletes, after the end of a call, what the creates with its mark have made or will make.
// It is a task of the client.
type cleanup struct {
	*parts
	names   []string // that its creates may have locked
	mark    string
	values  context.Context
	log     *slog.Logger
	running <-chan created  // the create that is under way; nil: none is
	unknown acquire.Unknown // of the others
}

// Drop implements [acquire.Driver]: it cleans up after the other creates of a grant's request.
func (p *parts) Drop(g *acquire.Grant) {
	if g.Unknown.Creates == 0 {
		return
	}
	_, mark, _ := wire.CutMark(g.Creator)
	(&cleanup{
		parts: p, names: []string{g.Lock.Name}, mark: mark, values: g.Values, log: g.Log,
		unknown: g.Unknown,
	}).start()
}

// CleanUp deletes, in the background, what creates of r by another driver may have made.
func (p *parts) CleanUp(r *acquire.Request) {
	_, mark, _ := wire.CutMark(r.Creator)
	c := &cleanup{
		parts: p, names: slices.Concat([]string{r.Name}, r.Any, r.All), mark: mark,
		values: r.Values, log: r.Log,
	}
	c.unknown.Add(false)
	c.start()
}

// start runs the cleanup in the background.
func (c *cleanup) start() {
	if err := c.tasks.Continue(c); err != nil {
		return // Shutdown has abandoned the client's tasks, and its error names them
	}
	go c.run()
}

// Describe implements [lifecycle.Job].
func (c *cleanup) Describe() string {
	return fmt.Sprintf("lock %q: the cleanup of a Lock that gave up", c.names[0])
}

// Abandon implements [lifecycle.Job]. It does nothing: the context of the cleanup ends with the
// client.
func (c *cleanup) Abandon() {}

func (c *cleanup) run() {
	defer c.tasks.End(c)
	ctx, cancel := context.WithTimeout(c.tasks.Context(c.values), cleanupFor)
	defer cancel()
	err := c.seek(ctx)
	if errors.Is(err, api.ErrClosed) {
		err = errors.New("the client was closed before the backend could be asked")
	}
	if err != nil {
		c.log.Error("a lock may be left on the backend until it expires",
			"lock", c.names[0], "mark", c.mark, "error", err)
	}
}

// seek waits for the create that is under way, and deletes what it made. Then it looks for locks
// with the mark in the list of all locks, until it has found one for each create without a
// response, or none can appear any more.
func (c *cleanup) seek(ctx context.Context) error {
	if c.running != nil {
		r := <-c.running
		switch {
		case r.err == nil:
			if err := c.delete(ctx, &r.lock); err != nil {
				return err
			}
		case !api.NoEffect(r.err):
			c.unknown.Add(answered(r.err))
		}
	}
	for pause := time.Second; c.unknown.Creates > 0; pause *= 2 {
		left := time.Until(c.unknown.Until)
		if err := c.look(ctx); err != nil {
			return err
		}
		switch {
		case c.unknown.Creates <= 0 || left <= 0:
			return nil
		case !acquire.Sleep(ctx, min(pause, left)):
			return context.Cause(ctx)
		}
	}
	return nil
}

// look deletes the locks with the mark that are in a List, as long as some may be missing.
func (c *cleanup) look(ctx context.Context) error {
	list, err := c.list(ctx)
	if err != nil {
		return err
	}
	for i := range list.locks {
		lock := &list.locks[i]
		if !slices.Contains(c.names, lock.Name) || !bears(lock, c.mark) {
			continue
		}
		if err := c.delete(ctx, lock); err != nil {
			return err
		}
		c.unknown.Creates--
	}
	return nil
}

// list retries a List until the backend responds or refuses.
func (c *cleanup) list(ctx context.Context) (*listing, error) {
	for {
		list, err := c.lists.wait(ctx)
		if err == nil || acquire.Refused(err) || errors.Is(err, api.ErrClosed) ||
			!acquire.Sleep(ctx, time.Second) {
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

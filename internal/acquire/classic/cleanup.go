package classic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	// cleanupFor limits a cleanup. By then a lock that was created has been swept: after 10 min and
	// a grace of about 3 min.
	cleanupFor = 15 * time.Minute

	// streamTime is how long a cleanup uses the stream alone: a cancel costs less than Lists.
	streamTime = 10 * time.Second
)

// errCancelled is the cause with which the search for a mark ends that was cancelled.
var errCancelled = errors.New("the mark was cancelled over the stream")

// cleanup deletes, after the end of a call, what the creates with its mark have made or will make.
// The mark is cancelled over the stream, if there is one, and looked for by plain requests. It is a
// task of the client.
type cleanup struct {
	*parts
	r       *acquire.Request // of the creates: its names, Creator, Values and Log
	running <-chan created   // the create that is under way; nil: none is
	unknown acquire.Unknown  // of the others
}

// Drop implements [acquire.Driver]: it cleans up after the other creates of a grant's request.
func (p *parts) Drop(g *acquire.Grant) {
	if g.Unknown.Creates == 0 {
		return
	}
	r := &acquire.Request{Name: g.Lock.Name, Creator: g.Creator, Values: g.Values, Log: g.Log}
	(&cleanup{parts: p, r: r, unknown: g.Unknown}).start()
}

// CleanUp deletes, in the background, what creates of r over the stream may have made.
func (p *parts) CleanUp(r *acquire.Request) {
	request := *r // the caller may go on with another mark
	c := &cleanup{parts: p, r: &request}
	c.unknown.Add(false)
	c.start()
}

// start begins the cleanup, which goes on in the background: the mark is cancelled, and after
// streamTime, or when the stream is of no use, it is also looked for. The first of both that
// succeeds ends the other. The cancel is sent before start returns, and so before what the caller
// requests next.
func (c *cleanup) start() {
	if err := c.tasks.Continue(c); err != nil {
		return // Shutdown has abandoned the client's tasks, and its error names them
	}
	ctx, end := context.WithCancelCause(c.tasks.Context(c.r.Values))
	alone, plainly := context.WithTimeout(ctx, streamTime)
	stop := plainly
	if c.stream != nil {
		_, mark, _ := wire.CutMark(c.r.Creator)
		stop = c.stream.Cancel(mark, func() { end(errCancelled) }, plainly)
	} else {
		plainly()
	}
	go func() {
		defer c.tasks.End(c)
		defer end(nil)
		defer stop()
		c.run(ctx, alone.Done())
	}()
}

// Describe implements [lifecycle.Job].
func (c *cleanup) Describe() string {
	return fmt.Sprintf("lock %q: the cleanup of a Lock that gave up", c.r.Name)
}

// Abandon implements [lifecycle.Job]. It does nothing: the context of the cleanup ends with the
// client.
func (c *cleanup) Abandon() {}

// run finishes the cleanup; plainly is closed when plain requests are due.
func (c *cleanup) run(ctx context.Context, plainly <-chan struct{}) {
	limited, cancel := context.WithTimeout(ctx, cleanupFor)
	defer cancel()
	err := c.await(limited)
	if err == nil && c.unknown.Creates > 0 {
		<-plainly
		err = c.seek(limited)
	}
	if err == nil || context.Cause(ctx) == errCancelled {
		return
	}
	if errors.Is(err, api.ErrClosed) {
		err = errors.New("the client was closed before the backend could be asked")
	}
	_, mark, _ := wire.CutMark(c.r.Creator)
	c.r.Log.Error("a lock may be left on the backend until it expires",
		"lock", c.r.Name, "mark", mark, "error", err)
}

// await waits for the create that is under way, and deletes what it made.
func (c *cleanup) await(ctx context.Context) error {
	if c.running == nil {
		return nil
	}
	r := <-c.running
	if r.err == nil {
		return c.delete(ctx, &r.lock)
	}
	if !api.NoEffect(r.err) || refusedForCancel(r.err) {
		c.unknown.Add(answered(r.err))
	}
	return nil
}

// refusedForCancel reports whether a create was refused because its mark is being cancelled. What
// the store does for it may take effect until the cancel is confirmed.
func refusedForCancel(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && e.Status == http.StatusGone
}

// seek looks for locks with the mark in the list of all locks, until it has found one for each
// create without a response, or none can appear any more.
func (c *cleanup) seek(ctx context.Context) error {
	for pause := time.Second; ctx.Err() == nil; pause *= 2 {
		left := time.Until(c.unknown.Until)
		if err := c.look(ctx); err != nil {
			return err
		}
		if c.unknown.Creates <= 0 || left <= 0 {
			return nil
		}
		acquire.Sleep(ctx, min(pause, left))
	}
	return context.Cause(ctx)
}

// look deletes the locks with the mark that are in a List, as long as some may be missing.
func (c *cleanup) look(ctx context.Context) error {
	list, err := c.list(ctx)
	if err != nil {
		return err
	}
	_, mark, _ := wire.CutMark(c.r.Creator)
	names := slices.Concat([]string{c.r.Name}, c.r.Any, c.r.All)
	for i := range list.locks {
		lock := &list.locks[i]
		if !slices.Contains(names, lock.Name) || !bears(lock, mark) {
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
	_, err := c.release(ctx, &acquire.Grant{Lock: *lock, Log: c.r.Log}, cleanupFor)
	if errors.Is(err, api.ErrGone) {
		return nil
	}
	return err
}

package classic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	renewTimeout   = 10 * time.Second
	releaseTimeout = 10 * time.Second
	attemptTimeout = 5 * time.Second // of a release
	releasePause   = 200 * time.Millisecond
)

// parts is what all calls and cleanups of one client share.
type parts struct {
	client *api.Client
	tasks  *lifecycle.Group
	clock  *clock.Clock
	lists  *lister
	queues *queues
	events *events
}

// release implements [acquire.Driver.Release].
func (p *parts) release(ctx context.Context, g *acquire.Grant, patience time.Duration,
) (answered bool, err error) {
	began := time.Now()
	_, mark, _ := wire.CutMark(g.Creator)
	if _, limited := ctx.Deadline(); limited {
		err = p.deleteOnce(ctx, g, api.ByMark(mark))
	} else {
		_, err = p.client.Delete(ctx, g.Lock.ID, api.Once(), api.ByMark(mark))
	}
	if err == nil {
		return true, nil // the usual case, without a second context
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(patience))
	defer cancel()
	for {
		var e *api.Error
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, api.ErrGone):
			if errors.As(err, &e) && (g.ReleaseSent || e.MaybeDone) {
				return true, nil // by an earlier attempt
			}
			return true, err
		case acquire.Refused(err):
			return true, err
		}
		g.ReleaseSent = g.ReleaseSent || !api.NoEffect(err)
		if ctx.Err() != nil {
			return false, err
		}
		g.Log.Info("lock not released, retrying",
			"lock", g.Lock.Name, "id", g.Lock.ID, "error", err)
		pause := releasePause
		if errors.As(err, &e) {
			pause = max(pause, min(e.RetryAfter, releaseTimeout/2))
		}
		if !sleep(ctx, pause) {
			return false, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		err = p.deleteOnce(ctx, g, api.ByMark(mark), api.FreshConn())
	}
}

// deleteOnce makes one attempt to delete the lock. Its time limit leaves time for another attempt
// on another connection.
func (p *parts) deleteOnce(ctx context.Context, g *acquire.Grant, opts ...api.CallOption) error {
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	_, err := p.client.Delete(attempt, g.Lock.ID, append(opts, api.Once())...)
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("no answer within %v", attemptTimeout) // nobody else's time limit
	}
	return err
}

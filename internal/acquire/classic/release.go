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
)

const (
	renewTimeout   = 10 * time.Second
	releaseTimeout = 10 * time.Second
	attemptTimeout = 5 * time.Second // of a release
	releasePause   = 200 * time.Millisecond
)

// parts are what the calls and cleanups of one client share.
type parts struct {
	client *api.Client
	tasks  *lifecycle.Group
	clock  *clock.Clock
	lists  *lister
	queues *queues
	events *events
}

// release deletes the lock of a grant until that is answered or ctx ends.
func (p *parts) release(ctx context.Context, g *acquire.Grant) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		_, err := p.client.Delete(attempt, g.Lock.ID, api.Once())
		late := attempt.Err() != nil && ctx.Err() == nil
		cancel()
		if late {
			err = fmt.Errorf("no answer within %v", attemptTimeout) // nobody else's time limit
		}
		var e *api.Error
		switch {
		case err == nil:
			return nil
		case errors.Is(err, api.ErrGone):
			if errors.As(err, &e) && (g.ReleaseSent || e.MaybeDone) {
				return nil // by an earlier attempt
			}
			return err
		case acquire.Refused(err):
			return err
		}
		g.ReleaseSent = g.ReleaseSent || !api.NoEffect(err)
		if ctx.Err() != nil {
			return err
		}
		g.Log.Info("lock not released, retrying", "lock", g.Lock.Name, "id", g.Lock.ID, "error", err)
		pause := releasePause
		if errors.As(err, &e) {
			pause = max(pause, min(e.RetryAfter, releaseTimeout/2))
		}
		if !sleep(ctx, pause) {
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

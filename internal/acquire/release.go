package acquire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	attemptTimeout = 5 * time.Second        // of a release
	releasePause   = 200 * time.Millisecond // between the first ones
	maxPause       = 5 * time.Second
)

// Delete deletes the lock of a grant with one request. If first is not set, an earlier attempt has
// failed: Delete then uses a new connection, since the kept ones may be dead.
func Delete(ctx context.Context, client *api.Client, g *Grant, first bool) error {
	_, mark, _ := wire.CutMark(g.Creator)
	if _, limited := ctx.Deadline(); first && !limited {
		_, err := client.Delete(ctx, g.Lock.ID, api.Once(), api.ByMark(mark))
		return err // the usual case, without a second context
	}
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	opts := []api.CallOption{api.Once(), api.ByMark(mark)}
	if !first {
		opts = append(opts, api.FreshConn())
	}
	_, err := client.Delete(attempt, g.Lock.ID, opts...)
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("no answer within %v", attemptTimeout) // nobody else's time limit
	}
	return err
}

// Release implements [Driver.Release] by attempts to delete the lock. Between two of them it
// pauses, for a twentieth of the time since the first: an outage delays the release by a twentieth
// more, and a server that comes back is not busy with the locks that could not be released.
func Release(ctx context.Context, g *Grant, patience time.Duration,
	attempt func(ctx context.Context, first bool) error,
) (answered bool, err error) {
	began := time.Now()
	if err = attempt(ctx, true); err == nil {
		return true, nil
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(patience))
	defer cancel()
	for {
		var e *api.Error
		switch {
		case err == nil:
			return true, nil
		case ctx.Err() != nil: // then err may be its cause, which is about another lock
			g.ReleaseSent = g.ReleaseSent || !api.NoEffect(err)
			return false, err
		case errors.Is(err, api.ErrGone):
			if errors.As(err, &e) && (g.ReleaseSent || e.MaybeDone) {
				return true, nil // by an earlier attempt
			}
			return true, err
		case Final(err):
			return true, err
		}
		g.ReleaseSent = g.ReleaseSent || !api.NoEffect(err)
		g.Log.Info("lock not released, retrying",
			"lock", g.Lock.Name, "id", g.Lock.ID, "error", err)
		pause := min(max(time.Since(began)/20, releasePause), maxPause)
		if errors.As(err, &e) {
			pause = max(pause, min(e.RetryAfter, maxPause))
		}
		if !Sleep(ctx, pause) {
			return false, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		err = attempt(ctx, false)
	}
}

// Sleep pauses for d, and reports whether ctx has not ended by then.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

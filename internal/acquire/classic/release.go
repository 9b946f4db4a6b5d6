package classic

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
)

const (
	renewTimeout   = 10 * time.Second
	releaseTimeout = 10 * time.Second
)

// Stream is a driver over the stream, while there is one.
type Stream interface {
	// OnBack calls end with [acquire.ErrMoved] when there is a stream again, until stop is called.
	// It returns false if there is one.
	OnBack(end context.CancelCauseFunc) (stop func(), absent bool)

	// CleanUp cancels, in the background, what creates of r may make. It returns false if there is
	// no stream.
	CleanUp(r *acquire.Request) bool
}

// parts is what all calls and cleanups of one client share.
type parts struct {
	client *api.Client
	tasks  *lifecycle.Group
	clock  *clock.Clock
	lists  *lister
	queues *queues
	events *events
	stream Stream // nil: there is none
}

// release implements [acquire.Driver.Release].
func (p *parts) release(ctx context.Context, g *acquire.Grant, patience time.Duration,
) (answered bool, err error) {
	return acquire.Release(ctx, g, patience, func(ctx context.Context, first bool) error {
		return acquire.Delete(ctx, p.client, g, first)
	})
}

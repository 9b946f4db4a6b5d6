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

// Stream is the driver over the stream.
type Stream interface {
	// Cancel cancels a mark until the server has confirmed that no lock of it exists or will exist,
	// or stop is called. It calls confirmed then, and plainly whenever it finds that plain requests
	// are needed as well.
	Cancel(mark string, confirmed, plainly func()) (stop func())
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

package classic

import (
	"context"
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// wholeLease is how much is counted of a longer lease.
const wholeLease = 365 * 24 * time.Hour

// running is a create under way.
type running struct {
	done   chan created
	cancel context.CancelFunc
}

// created is the outcome of one create.
type created struct {
	lock api.Lock
	err  error
	sent clock.Instant
	wait time.Duration // that it was allowed to queue on the server

	brokenOff bool
}

// queuedForLess reports whether the create was to queue on the server, and was
// answered long before its time was over.
func (r *created) queuedForLess(now clock.Instant) bool {
	return r.wait > 0 && now.Sub(r.sent) <= min(r.wait, time.Second)/2
}

// kind says what an outcome means for the call.
type kind int

const (
	granted kind = iota
	held         // by another lock
	failed       // the same request may succeed later
	stale        // it was broken off, since the name is held by the call's own lock
	final        // it will not
)

// kind classifies an outcome. An answer without the backend's own body comes
// from something on the way: that is an outage, even a 409, unless it claims
// success.
func (r *created) kind() kind {
	var e *api.Error
	foreign := errors.As(r.err, &e) && !e.Own
	switch {
	case r.err == nil:
		return granted
	case r.brokenOff:
		return stale
	case foreign && e.Status/100 != 2, api.Transient(r.err):
		return failed
	case errors.Is(r.err, api.ErrHeld):
		return held
	}
	return final
}

// bears reports whether a lock was made by a create with this mark.
func bears(lock *api.Lock, mark string) bool {
	_, m, ok := wire.CutMark(lock.Creator)
	return ok && m == mark
}

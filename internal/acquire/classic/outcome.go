package classic

import (
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// wholeLease is the longest lease that is counted; a longer one counts as this.
const wholeLease = 365 * 24 * time.Hour

// created is the outcome of one create.
type created struct {
	lock api.Lock
	err  error
	sent clock.Instant
	wait time.Duration // for which it was allowed to queue on the server
}

// queuedForLess reports whether the create was to queue on the server, but was refused long before
// its time was over.
func (r *created) queuedForLess(now clock.Instant) bool {
	return r.wait > 0 && now.Sub(r.sent) <= min(r.wait, time.Second)/2
}

// kind classifies the outcome of a create.
type kind int

const (
	granted kind = iota
	held         // the name is held
	failed       // the same request may succeed later
	final        // the same request will not succeed later
)

// kind returns the kind of the outcome. A response without the backend's own body is from something
// on the way: it is a failure, even a 409, unless it claims success.
func (r *created) kind() kind {
	if r.err == nil {
		return granted
	}
	e, ok := errors.AsType[*api.Error](r.err)
	foreign := ok && !e.Own
	switch {
	case foreign && e.Status/100 != 2, api.Transient(r.err):
		return failed
	case errors.Is(r.err, api.ErrHeld):
		return held
	}
	return final
}

// answered reports whether a create that failed with err got a response.
func answered(err error) bool {
	_, ok := errors.AsType[*api.Error](err)
	return ok
}

// bears reports whether a lock was made by a create with this mark.
func bears(lock *api.Lock, mark string) bool {
	_, m, ok := wire.CutMark(lock.Creator)
	return ok && m == mark
}

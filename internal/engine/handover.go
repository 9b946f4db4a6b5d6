package engine

import (
	"context"
	"errors"

	"gitlab.com/relukko/relukko-go/server/store"
)

// handOver deletes a lock and creates the next one for a waiter.
type handOver struct {
	*try
	id   string // of the lock that is released
	conn *Conn  // that releases it
	how  store.Ending

	deleted store.Lock
	err     error // of the delete
	free    bool  // only the delete was done,
	unsure  bool  // as far as is known
}

// run makes the store calls. A waiter whose mark must be claimed first is served after the delete.
// After an error that does not pass the two steps are taken one by one: a create that fails must
// not prevent the delete.
func (h *handOver) run(e *Engine) {
	var both store.Handover
	err := errors.ErrUnsupported
	if h.ready(e) {
		err = e.guarded(func() (err error) {
			both, err = e.store.HandOver(context.Background(), h.id, h.how, h.in)
			return err
		})
	}
	switch {
	case err == nil:
		h.deleted, h.err = both.Deleted, both.DeleteErr
		h.lock, h.try.err = both.Created, both.CreateErr
	case isUnavailable(err):
		h.err, h.try.err = err, err
	default:
		h.unsure = !errors.Is(err, errors.ErrUnsupported)
		h.deleted, h.err = e.storeDelete(h.id, h.how)
		h.free = true
	}
}

package engine

import (
	"context"
	"errors"

	"gitlab.com/relukko/relukko-go/server/store"
)

// orphan makes sure that the lock is deleted if it exists, unless it has a mark.
func (e *Engine) orphan(in *store.NewLock) {
	if in.Mark == "" && e.orphans.add(in.ID) {
		e.sweeper.within(maxSweepPause)
	}
}

// undo deletes a lock that its client does not know, and reports whether it is gone. If the store
// fails, the lock becomes an orphan; one with a mark stays until it expires or its client finds it.
func (e *Engine) undo(in *store.NewLock) (gone bool) {
	lock, err := e.remove(context.Background(), in.ID)
	if err != nil && !errors.Is(err, store.ErrGone) {
		e.Log.Warn("cannot delete a lock whose client is gone",
			"lock", in.Name, "id", in.ID, "error", err)
		e.orphan(in)
		return false
	}
	if err == nil {
		e.publish(store.EventDeleted, &lock)
	}
	return true
}

// undoUnknown does the same for a lock that may exist or come to exist.
func (e *Engine) undoUnknown(in *store.NewLock) (gone bool) {
	e.orphan(in)
	return e.undo(in)
}

package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	maxOrphans  = 1000
	orphanLooks = 10 // a second apart, once the store is back: a create may take effect late
)

// orphans are locks that may exist, or may come to exist, although their client was told 503 or is
// gone. Left alone, such a lock would hold its name until it expires. Locks with a mark are no
// orphans: their clients can find them.
type orphans struct {
	mu    sync.Mutex
	looks map[string]int // by id: how often the store has said that there is no such lock
}

func (o *orphans) init() { o.looks = make(map[string]int) }

// add reports whether there was room for the orphan.
func (o *orphans) add(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.looks) >= maxOrphans {
		return false
	}
	o.looks[id] = 0
	return true
}

func (o *orphans) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.looks))
}

// looked forgets an orphan that was deleted, or has not existed often enough.
func (o *orphans) looked(id string, deleted bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.looks[id]++; deleted || o.looks[id] == orphanLooks {
		delete(o.looks, id)
	}
}

// orphan makes sure that the lock is deleted if it exists, unless it has a mark.
func (e *Engine) orphan(in *store.NewLock) {
	if in.Mark == "" && e.orphans.add(in.ID) {
		e.sweeper.within(maxSweepPause)
	}
}

// deleteOrphans reports whether it has to be called again.
func (e *Engine) deleteOrphans() (again bool) {
	ids := e.orphans.all()
	for _, id := range ids {
		lock, err := e.remove(context.Background(), id)
		switch {
		case err == nil:
			e.Log.Info("deleted a lock that its client does not know", "lock", lock.Name, "id", id)
			e.deleted(&lock)
		case !errors.Is(err, store.ErrGone):
			return true
		}
		e.orphans.looked(id, err == nil)
	}
	return len(ids) > 0
}

// takeBack deletes a lock that its client does not know, and hands its name on.
func (e *Engine) takeBack(in *store.NewLock) {
	if e.undo(in) {
		e.offer(in.Name)
	}
}

// takeBackUnknown does the same for a lock that may exist or come to exist. It reports whether the
// lock does not exist now.
func (e *Engine) takeBackUnknown(in *store.NewLock) (gone bool) {
	if gone = e.undoUnknown(in); gone {
		e.offer(in.Name)
	}
	return gone
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

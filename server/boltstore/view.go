package boltstore

import (
	"maps"
	"slices"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// view is what every caller may see: what is durable, and nothing else. The committer changes it
// after a write is durable and before its requests return.
type view struct {
	mu     sync.RWMutex
	byID   map[string]*lockset.Record
	byName map[string]*lockset.Record
	off    map[lockset.Key]*lockset.Mark // cancelled
	claims *lockset.Claims               // the committer's: they are on no disk
	closed error                         // what every call returns, once it is set
}

// show replaces everything by the state, which has no changes that are not on disk.
func (v *view) show(w *state) {
	byID := make(map[string]*lockset.Record, w.Len())
	byName := make(map[string]*lockset.Record, w.Len())
	for _, r := range w.Records() {
		byID[r.ID], byName[r.Name] = r, r
	}
	off := make(map[lockset.Key]*lockset.Mark)
	maps.Copy(off, w.Cancelled.Latest())
	v.mu.Lock()
	defer v.mu.Unlock()
	v.byID, v.byName, v.off = byID, byName, off
}

// apply shows changes that have become durable, all at one instant.
func (v *view) apply(changes []change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range changes {
		switch c := &changes[i]; {
		case c.lock == nil && c.mark == nil: // the history is read from the file
		case c.lock != nil && c.value != nil:
			v.byID[c.lock.ID], v.byName[c.lock.Name] = c.lock, c.lock
		case c.lock != nil:
			delete(v.byID, c.lock.ID)
			delete(v.byName, c.lock.Name)
		case c.value != nil:
			v.off[c.mark.Key] = c.mark
		case v.off[c.mark.Key] == c.mark: // otherwise cancelled again since
			delete(v.off, c.mark.Key)
		}
	}
}

func (v *view) close(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed == nil {
		v.closed = why
	}
}

// open returns nil, or the error of every call once the view is closed.
func (v *view) open() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.closed
}

// refusal returns the error of a create that what is durable refuses; nil when the committer has
// to decide.
func (v *view) refusal(in *store.NewLock, now func() time.Time) (holder store.Lock, err error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.closed != nil {
		return store.Lock{}, v.closed
	}
	if in.Mark != "" {
		off := v.off[lockset.Key{Owner: in.Owner, Mark: in.Mark}]
		switch {
		case off != nil && now().Before(off.Until):
			return store.Lock{}, store.ErrCancelled
		case v.claims.Supersede(in):
			return store.Lock{}, store.ErrSuperseded
		}
	}
	if r := v.byName[in.Name]; r != nil {
		return r.Lock, store.ErrHeld
	}
	return store.Lock{}, nil
}

func (v *view) get(id string) (store.Lock, error)      { return v.find(&v.byID, id) }
func (v *view) holder(name string) (store.Lock, error) { return v.find(&v.byName, name) }

func (v *view) find(index *map[string]*lockset.Record, key string) (store.Lock, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.closed != nil {
		return store.Lock{}, v.closed
	}
	if r := (*index)[key]; r != nil {
		return r.Lock, nil
	}
	return store.Lock{}, store.ErrGone
}

func (v *view) list() ([]store.Lock, error) {
	v.mu.RLock()
	records, err := slices.Collect(maps.Values(v.byID)), v.closed
	v.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	return lockset.List(records), nil
}

package boltstore

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/server"
)

// view is what everybody may see: what is durable, and nothing else. The committer changes it between the
// commit of a transaction and the answers to those who asked for it.
type view struct {
	mu     sync.RWMutex
	byID   map[string]*record
	byName map[string]*record
	off    map[string]*tombstone
	closed error // why nothing is answered any more
}

// show replaces everything by the state, which has no changes that are not on disk.
func (v *view) show(w *state) {
	byID := make(map[string]*record, len(w.byID))
	byName := make(map[string]*record, len(w.byName))
	off := make(map[string]*tombstone, len(w.off))
	for id, i := range w.byID {
		byID[id] = i.record
		byName[i.Name] = i.record
	}
	for mark, t := range w.off {
		off[mark] = t
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.byID, v.byName, v.off = byID, byName, off
}

// apply takes in changes that have become durable, all at one instant.
func (v *view) apply(changes []change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range changes {
		switch c := &changes[i]; {
		case c.lock != nil && c.value != nil:
			v.byID[c.lock.ID] = c.lock
			v.byName[c.lock.Name] = c.lock
		case c.lock != nil:
			delete(v.byID, c.lock.ID)
			delete(v.byName, c.lock.Name)
		case c.value != nil:
			v.off[c.mark.mark] = c.mark
		case v.off[c.mark.mark] == c.mark: // else called off once more since
			delete(v.off, c.mark.mark)
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

// open answers nil, or why nothing is answered any more.
func (v *view) open() error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.closed
}

// refusal answers why a create is refused by what is durable already; nil when that is to be found out.
func (v *view) refusal(in *server.NewLock, now func() time.Time) (holder server.Lock, err error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.closed != nil {
		return server.Lock{}, v.closed
	}
	if t := v.off[in.Mark]; t != nil && in.Mark != "" && now().Before(t.until) {
		return server.Lock{}, server.ErrCalledOff
	}
	if r := v.byName[in.Name]; r != nil {
		return r.Lock, server.ErrHeld
	}
	return server.Lock{}, nil
}

func (v *view) get(id string) (server.Lock, error)      { return v.find(&v.byID, id) }
func (v *view) holder(name string) (server.Lock, error) { return v.find(&v.byName, name) }

func (v *view) find(index *map[string]*record, key string) (server.Lock, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.closed != nil {
		return server.Lock{}, v.closed
	}
	if r := (*index)[key]; r != nil {
		return r.Lock, nil
	}
	return server.Lock{}, server.ErrGone
}

// list answers all locks in the order of their creation, whatever the clock did since.
func (v *view) list() ([]server.Lock, error) {
	v.mu.RLock()
	locks, err := make([]server.Lock, 0, len(v.byID)), v.closed
	for _, r := range v.byID {
		locks = append(locks, r.Lock)
	}
	v.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(locks, func(a, b server.Lock) int { return cmp.Compare(a.FencingToken, b.FencingToken) })
	return locks, nil
}

package engine

import (
	"maps"
	"slices"
	"sync"
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

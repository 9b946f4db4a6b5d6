package httpapi

import (
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	rememberReleases = time.Minute
	maxReleases      = 10_000
)

// releases remembers the locks that their own holders have released of late.
// Something between client and server, such as a proxy with two upstreams, may
// repeat a DELETE whose response it has lost: the holder, which says so by the
// mark of the lock, must not be told then that somebody else has taken its lock.
// Servers that share a store tell each other.
type releases struct {
	mu    sync.Mutex
	locks map[string]store.Lock // by id
	order []released
}

type released struct {
	id string
	at time.Time
}

// add remembers a lock that its holder has released.
func (rs *releases) add(lock *store.Lock) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.forget()
	if rs.locks == nil {
		rs.locks = make(map[string]store.Lock)
	}
	rs.locks[lock.ID] = *lock
	rs.order = append(rs.order, released{lock.ID, time.Now()})
}

// find returns the lock with that id and mark as it was when it was released.
func (rs *releases) find(id, mark string) (store.Lock, bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.forget()
	lock, ok := rs.locks[id]
	return lock, ok && bears(&lock, mark)
}

func (rs *releases) forget() {
	for len(rs.order) > 0 &&
		(len(rs.order) >= maxReleases || time.Since(rs.order[0].at) > rememberReleases) {
		delete(rs.locks, rs.order[0].id)
		rs.order = rs.order[1:]
	}
}

func bears(lock *store.Lock, mark string) bool {
	_, m, ok := wire.CutMarkOf(lock.Creator)
	return ok && m == mark
}

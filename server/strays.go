package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

const (
	maxStrays  = 1000
	strayLooks = 10 // a second apart, once the store answers again: what it was asked for may still come about
)

// strays are locks that may have come to be, or yet come, though their caller was told 503 or is gone: nobody knows their ids,
// and who tries again would find a lock in the way that is there for 10 min and the grace. Those with a mark are not among
// them: by that their callers find them, and may be using them.
type strays struct {
	mu  sync.Mutex
	ids map[string]int // how often the store has said that there is no such lock
}

func (st *strays) init() { st.ids = make(map[string]int) }

func (st *strays) all() []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Collect(maps.Keys(st.ids))
}

// looked forgets the stray when it was deleted, or has not been there often enough.
func (st *strays) looked(id string, deleted bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ids[id]++; deleted || st.ids[id] == strayLooks {
		delete(st.ids, id)
	}
}

// inDoubt tells whether what ended with err may have happened, or may yet. When the store is gone most of what it is asked for
// never gets there, and what may have would find no place among so many.
func inDoubt(err error) bool { return errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNotDone) }

// stray has the lock with that id deleted, should there be one, unless its creator bears a mark.
func (s *Server) stray(id string, creator *string) {
	if creator != nil && markOf(*creator) != "" {
		return
	}
	s.strays.mu.Lock()
	defer s.strays.mu.Unlock()
	if len(s.strays.ids) < maxStrays {
		s.strays.ids[id] = 0
		s.sweeper.within(maxSweepPause)
	}
}

// removeStrays tells whether it has to be done again.
func (s *Server) removeStrays() (again bool) {
	ids := s.strays.all()
	for _, id := range ids {
		lock, err := s.delete(context.Background(), id)
		switch {
		case err == nil:
			s.log.Info("deleted a lock whose caller was not told of it", "lock", lock.Name, "id", id)
			s.removed(&lock)
		case !errors.Is(err, ErrGone):
			return true
		}
		s.strays.looked(id, err == nil)
	}
	return len(ids) > 0
}

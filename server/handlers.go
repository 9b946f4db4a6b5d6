package server

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	createdTTL = 10 * time.Minute // of a lock that was free
	grantedTTL = time.Minute      // of a lock granted from the queue, whose caller may be gone unseen
	defaultTTL = 5 * time.Minute  // of keep_alive and add_to_expire_at without seconds

	calledOffFor = 10 * time.Minute // how long a mark that was called off is refused
)

// settled is the context of what must not stop half-way when the caller goes away.
func settled(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if err := s.store.Ping(r.Context()); err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, []byte(`{"status":200,"message":"up"}`))
}

// create makes a lock, or queues for its name when the caller prefers to wait.
func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	s.offer(w)
	name, creator, err := readCreate(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	in := NewLock{ID: newID(), Name: name, Creator: creator, IP: peer(r), TTL: createdTTL}
	if s.has(ExtCallOff) && creator != nil {
		in.Mark = markOf(*creator)
	}
	var wait time.Duration
	if s.has(ExtWait) {
		wait = preferredWait(r.Header["Prefer"])
	}

	queued, calledOff := s.room.look(name, in.Mark)
	if calledOff {
		s.fail(w, r, ErrCalledOff)
		return
	}
	lock, err := Lock{}, ErrHeld // nobody overtakes those who queue
	if !queued {
		lock, err = s.store.Create(settled(r), in)
	} else if wait == 0 && s.has(ExtHolder) {
		lock, _ = s.store.Holder(r.Context(), name) // nice to have, no more
	}
	switch {
	case err == nil:
		s.madeLock(&lock)
		if r.Context().Err() != nil && in.Mark == "" { // by a mark he may have found it, see writeDecision
			s.takeBack(&lock)
			s.writeGone(w)
			return
		}
		s.writeLock(w, r, http.StatusCreated, &lock)
	case !errors.Is(err, ErrHeld):
		if inDoubt(err) {
			s.stray(in.ID, creator)
		}
		s.fail(w, r, err)
	case wait == 0:
		s.writeConflict(w, name, &lock)
	default:
		s.queue(w, r, in, wait)
	}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	locks, err := s.store.List(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var counts func(string) int
	if s.has(ExtWaiters) {
		counts = s.room.counts()
	}
	b := make([]byte, 0, 2+400*len(locks))
	b = append(b, '[')
	for i := range locks {
		if i > 0 {
			b = append(b, ',')
		}
		waiters := -1
		if counts != nil {
			waiters = counts(locks[i].Name)
		}
		b = appendLock(b, &locks[i], s.has(ExtFencingToken), waiters)
	}
	writeJSON(w, http.StatusOK, append(b, ']'))
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	id, ok := s.pathID(w, r)
	if !ok {
		return
	}
	lock, err := s.store.Get(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeLock(w, r, http.StatusOK, &lock)
}

func (s *Server) update(w http.ResponseWriter, r *http.Request) {
	s.change(w, r, readUpdate)
}

func (s *Server) keepAlive(w http.ResponseWriter, r *http.Request) {
	s.change(w, r, func(w http.ResponseWriter, r *http.Request) (Change, error) {
		lease, err := readSeconds(w, r)
		return Change{Lease: &lease}, err
	})
}

func (s *Server) addToExpiry(w http.ResponseWriter, r *http.Request) {
	s.change(w, r, func(w http.ResponseWriter, r *http.Request) (Change, error) {
		extend, err := readSeconds(w, r)
		return Change{Extend: extend}, err
	})
}

// change does to the lock in the path what the body says.
func (s *Server) change(w http.ResponseWriter, r *http.Request, read func(http.ResponseWriter, *http.Request) (Change, error)) {
	id, ok := s.pathID(w, r)
	if !ok {
		return
	}
	change, err := read(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	lock, err := s.store.Update(settled(r), id, change)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.sweeper.expect(&lock, s.grace)
	s.publish("updated", &lock)
	s.writeLock(w, r, http.StatusOK, &lock)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	id, ok := s.pathID(w, r)
	if !ok {
		return
	}
	lock, err := s.release(settled(r), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.writeLock(w, r, http.StatusOK, &lock)
}

// callOff has the create with that mark not happen: wherever it is by now, no lock of it is left when this is answered.
func (s *Server) callOff(w http.ResponseWriter, r *http.Request) {
	mark := r.PathValue("mark")
	if !validMark(mark) {
		writeError(w, http.StatusBadRequest, "a mark is 1 to 64 letters, digits, - or _")
		return
	}
	s.room.callOff(mark, calledOffFor)
	locks, err := s.store.CallOff(settled(r), mark, calledOffFor)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for i := range locks {
		s.removed(&locks[i])
	}
	w.WriteHeader(http.StatusNoContent)
}

// madeLock spreads the news of a lock that this server has just made.
func (s *Server) madeLock(lock *Lock) {
	s.sweeper.expect(lock, s.grace)
	s.publish("created", lock)
}

// removed spreads the news of a lock that is gone, and hands its name to the next in line.
func (s *Server) removed(lock *Lock) {
	s.publish("deleted", lock)
	s.handOn(lock.Name)
}

// takeBack deletes a lock of which its caller has not heard, and will not.
func (s *Server) takeBack(lock *Lock) {
	if s.undo(lock) {
		s.handOn(lock.Name)
	}
}

// takeBackInDoubt does the same with a lock that may be there, or come yet, and tells whether it is not there now.
func (s *Server) takeBackInDoubt(in *NewLock) bool {
	gone := s.undoInDoubt(in)
	if gone {
		s.handOn(in.Name)
	}
	return gone
}

// undo deletes a lock of which nobody has heard. When the store fails now, a lock with a mark goes when it expires, or when
// its caller looks for it; another is looked for here.
func (s *Server) undo(lock *Lock) bool {
	gone, err := s.delete(context.Background(), lock.ID)
	if err != nil && !errors.Is(err, ErrGone) {
		s.log.Warn("a lock whose caller is gone can't be deleted now", "lock", lock.Name, "id", lock.ID, "error", err)
		s.stray(lock.ID, lock.Creator)
		return false
	}
	if err == nil {
		s.publish("deleted", &gone)
	}
	return true
}

// undoInDoubt does the same with a lock that may be there, or come yet.
func (s *Server) undoInDoubt(in *NewLock) bool {
	s.stray(in.ID, in.Creator)
	return s.undo(&Lock{ID: in.ID, Name: in.Name, Creator: in.Creator})
}

// pathID answers the id in the path. One that is no UUID is none that was ever given out: as gone as any other.
func (s *Server) pathID(w http.ResponseWriter, r *http.Request) (string, bool) {
	id, ok := parseID(r.PathValue("id"))
	if !ok {
		writeError(w, s.gone, "there is no such lock: the id is not a UUID")
	}
	return id, ok
}

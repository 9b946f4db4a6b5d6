package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// queue lets a create wait for its turn, and answers it.
func (s *Server) queue(w http.ResponseWriter, r *http.Request, in NewLock, wait time.Duration) {
	in.TTL = grantedTTL
	me, err := s.room.join(in)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer s.room.forget(me)
	// The time-outs of an http.Server are about callers who dawdle, not about those whom we let wait.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Now().Add(wait + queueSlack))

	if me.looks {
		s.handOnAll(in.Name) // it may have come free before we joined, or while nobody told us
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	timedOut := false
	select {
	case <-me.done:
	case <-timer.C:
		timedOut = true
		if s.room.expire(me) {
			select {
			case <-me.done:
			case <-r.Context().Done():
			case <-s.stopped.Done():
			}
		}
	case <-r.Context().Done():
	case <-s.stopped.Done():
	}
	left := s.room.quit(me, timedOut) || me.err == errLate
	unsure := false
	for _, id := range me.doubts {
		if me.lock.ID == "" && !me.finds {
			in.ID = id
			unsure = !s.takeBackInDoubt(&in) || unsure
		}
	}
	switch {
	case !left:
		s.writeDecision(w, r, me)
	case timedOut && unsure: // a 409 would say that there is no lock of his
		s.fail(w, r, ErrUnavailable)
	case timedOut:
		w.Header()["Preference-Applied"] = waitIsHeeded
		var holder Lock
		if s.has(ExtHolder) {
			holder, _ = s.store.Holder(r.Context(), in.Name) // nice to have, no more
		}
		s.writeConflict(w, in.Name, &holder)
	case r.Context().Err() != nil:
		s.writeGone(w)
	default:
		s.refuseClosing(w, r)
	}
}

// writeDecision answers a create that has been granted a lock, or refused one. Up to its first byte the lock can be taken back,
// unless it has a mark: by that a caller whose connection broke may have found it by now, and be using it. Or he calls it off.
func (s *Server) writeDecision(w http.ResponseWriter, r *http.Request, me *waiter) {
	switch {
	case me.err != nil:
		s.fail(w, r, me.err)
	case s.room.forget(me): // called off
		s.takeBack(&me.lock)
		s.fail(w, r, ErrCalledOff)
	case r.Context().Err() != nil && me.in.Mark == "":
		s.takeBack(&me.lock)
		s.writeGone(w)
	default:
		w.Header()["Preference-Applied"] = waitIsHeeded
		s.writeLock(w, r, http.StatusCreated, &me.lock)
	}
}

// release deletes a lock and hands its name on, in one step where the store can and somebody is known to queue for it here.
func (s *Server) release(ctx context.Context, id string) (Lock, error) {
	if store, ok := s.store.(HandOverStore); ok {
		if head := s.room.offerHeldBy(id); head != nil {
			return s.handOver(ctx, store, id, head)
		}
	}
	lock, err := s.delete(ctx, id)
	if err == nil {
		s.removed(&lock)
	}
	return lock, err
}

// handOver deletes a lock and grants the next one to the head of the line, to whom its name is being offered.
//
// When the store is unavailable, both may have happened. Then the head stays where he is, in doubt: as soon as the name is
// offered again, he finds that the lock that holds it is his own, or that it is not; and if he leaves before, it is taken back.
// After any other error it is done in two steps: what can't be created must not keep the other from being deleted.
func (s *Server) handOver(ctx context.Context, store HandOverStore, id string, head *waiter) (Lock, error) {
	in := head.in
	in.Waited = time.Since(head.since)
	var both Handover
	err := s.guarded(func() (err error) {
		both, err = store.HandOver(ctx, id, in)
		return err
	})
	free := false
	switch {
	case err == nil:
		if err = both.DeleteErr; err == nil {
			s.publish("deleted", &both.Deleted)
		}
		free = s.granted(head, both.Created, both.CreateErr)
	case !errors.Is(err, ErrUnavailable):
		if both.Deleted, err = s.delete(ctx, id); err == nil {
			s.publish("deleted", &both.Deleted)
		}
		free = err == nil || errors.Is(err, ErrGone)
	case !s.room.doubt(head):
		free = s.undoInDoubt(&in)
	}
	s.offerOn(s.room.next(head, free))
	return both.Deleted, err
}

// delete is the store's Delete, whose panic is an error.
func (s *Server) delete(ctx context.Context, id string) (lock Lock, err error) {
	err = s.guarded(func() (err error) {
		lock, err = s.store.Delete(ctx, id)
		return err
	})
	return lock, err
}

// handOn offers a name that may be free to those who queue for it, until one has it or nobody is left. When it
// returns, either that is done or another goroutine is at it.
func (s *Server) handOn(name string) { s.offerOn(s.room.offer(name)) }

// offerOn offers the name for which w queues to him and those behind him, as handOn does. W may be nil.
func (s *Server) offerOn(w *waiter) {
	for w != nil {
		free := true
		err := s.guarded(func() error { free = s.grant(w); return nil })
		if err != nil {
			s.room.refuse(w, err)
		}
		w = s.room.next(w, free)
	}
}

// grant tries to create the lock that w waits for, and tells whether the name may still be free afterwards.
func (s *Server) grant(w *waiter) (free bool) {
	in := w.in
	in.Waited = time.Since(w.since)
	lock, err := s.store.Create(context.Background(), in)
	return s.granted(w, lock, err)
}

// granted takes in what the store said to the creation of the lock that w waits for, and tells what grant does.
func (s *Server) granted(w *waiter, lock Lock, err error) (free bool) {
	his := lock.ID == w.in.ID || slices.Contains(w.doubts, lock.ID) // a hand-over in doubt has made it
	switch {
	case err == nil, errors.Is(err, ErrHeld) && his:
		for _, id := range w.doubts {
			if id != lock.ID {
				s.stray(id, nil) // the mark finds the one that he is told of
			}
		}
		s.madeLock(&lock)
		return !s.room.accept(w, lock) && s.undo(&lock)
	case errors.Is(err, ErrHeld):
		s.room.heldBy(w.line, lock.ID)
		return false
	case errors.Is(err, ErrUnavailable):
		// The name may be free, and nobody would say so later. Those who wait had better come again.
		if inDoubt(err) {
			s.stray(w.in.ID, w.in.Creator)
		}
		s.room.refuseAll(w.line, err)
		return false
	default:
		s.room.refuse(w, err)
		return true
	}
}

package server

import (
	"context"
	"errors"
	"net/http"
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
	case <-r.Context().Done():
	case <-s.stopped.Done():
	}
	switch left := s.room.quit(me); {
	case !left:
		s.writeDecision(w, r, me)
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

// writeDecision answers a create that has been granted a lock, or refused one. Up to its first byte the lock can be taken back.
func (s *Server) writeDecision(w http.ResponseWriter, r *http.Request, me *waiter) {
	switch {
	case me.err != nil:
		s.fail(w, r, me.err)
	case s.room.forget(me): // called off
		s.takeBack(&me.lock)
		s.fail(w, r, ErrCalledOff)
	case r.Context().Err() != nil:
		s.takeBack(&me.lock)
		s.writeGone(w)
	default:
		w.Header()["Preference-Applied"] = waitIsHeeded
		s.writeLock(w, r, http.StatusCreated, &me.lock)
	}
}

// handOn offers a name that may be free to those who queue for it, until one has it or nobody is left. When it
// returns, either that is done or another goroutine is at it.
func (s *Server) handOn(name string) {
	for w := s.room.offer(name); w != nil; {
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
	switch {
	case err == nil:
		s.madeLock(&lock)
		return !s.room.accept(w, lock) && s.undo(&lock)
	case errors.Is(err, ErrHeld):
		return false
	case errors.Is(err, ErrUnavailable):
		// The name may be free, and nobody would say so later. Those who wait had better come again.
		s.room.refuseAll(w.line, err)
		return false
	default:
		s.room.refuse(w, err)
		return true
	}
}

package server

import "time"

// listenPause is how long the server waits before it listens to its store again after that has failed.
const listenPause = time.Second

// listen takes in what other servers do to the same store, until the server stops or the store says that there are none.
func (s *Server) listen() {
	for {
		err := s.guarded(func() error { return s.store.Watch(s.stopped, s.hear) })
		if err == nil || s.stopped.Err() != nil {
			return
		}
		s.log.Warn("other servers on the same store can't be heard now", "error", err)
		select {
		case <-s.stopped.Done():
			return
		case <-time.After(listenPause):
		}
	}
}

// hear takes in one event. It does not wait for the store, so that the next event is heard in time.
func (s *Server) hear(e Event) {
	switch e.Kind {
	case EventCreated:
		s.sweeper.expect(&e.Lock, s.grace)
		s.publish("created", &e.Lock)
	case EventUpdated:
		s.sweeper.expect(&e.Lock, s.grace)
		s.publish("updated", &e.Lock)
	case EventDeleted:
		s.publish("deleted", &e.Lock)
		s.tryToHandOn(e.Lock.Name)
	case EventFree:
		s.tryToHandOn(e.Lock.Name)
	case EventCalledOff:
		s.room.callOff(e.Mark, calledOffFor)
	case EventMissed:
		// Watchers who wait for a name look again when they hear of a deletion that could be anybody's.
		s.hub.publish([]byte(`{"deleted":true}`))
		s.background.Go(func() {
			s.sweeper.within(0)
			s.handOnAll(s.room.names()...)
		})
	}
	s.hub.announce(nil)
}

// tryToHandOn hands a name on behind, if somebody is in line for it.
func (s *Server) tryToHandOn(name string) {
	if s.room.count(name) > 0 {
		s.background.Go(func() { s.handOnAll(name) })
	}
}

func (s *Server) handOnAll(names ...string) {
	for _, name := range names {
		s.handOn(name)
	}
	s.hub.announce(nil)
}

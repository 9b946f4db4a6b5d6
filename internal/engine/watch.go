package engine

import (
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// watchPause is the time between two attempts to watch a store.
const watchPause = time.Second

// watch follows what other servers do to the store, until the engine stops or the store says that
// there are none.
func (e *Engine) watch() {
	for {
		err := e.guarded(func() error { return e.store.Watch(e.stopped, e.handle) })
		if err == nil || e.stopped.Err() != nil {
			return
		}
		e.Log.Warn("cannot watch other servers on the same store", "error", err)
		select {
		case <-e.stopped.Done():
			return
		case <-time.After(watchPause):
		}
	}
}

// handle handles one event. It does not wait for the store, so that the next event is not delayed.
func (e *Engine) handle(event store.Event) {
	e.do(func() { e.handleLocked(&event) })
	e.Flush()
}

func (e *Engine) handleLocked(event *store.Event) {
	switch event.Kind {
	case store.EventCreated:
		e.isFresh(event.Lock.ID)
		fallthrough
	case store.EventUpdated:
		e.sweeper.expect(&event.Lock, e.Grace)
		e.Publish(*event)
	case store.EventReleased:
		e.Publish(*event)
	case store.EventDeleted:
		e.deleted(&event.Lock, "", nil)
	case store.EventFree:
		if q := e.queues[event.Lock.Name]; q != nil {
			e.offer(q)
		}
	case store.EventCancelled:
		if w := e.marks[markKey{event.Lock.Owner, event.Mark}]; w != nil {
			e.refuse(w, store.ErrCancelled, nil)
		}
	case store.EventMissed:
		e.Publish(*event)
		e.sweeper.within(0)
		for _, q := range e.queues {
			q.retrying = false // what was unknown may be known now
			e.offer(q)
		}
	}
}

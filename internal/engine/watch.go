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
	switch event.Kind {
	case store.EventCreated, store.EventUpdated:
		e.sweeper.expect(&event.Lock, e.Grace)
		e.Publish(event)
	case store.EventReleased:
		e.Publish(event)
	case store.EventDeleted:
		e.Publish(event)
		e.offerInBackground(event.Lock.Name)
	case store.EventFree:
		e.offerInBackground(event.Lock.Name)
	case store.EventCalledOff:
		e.queues.callOff(event.Mark, calledOffFor)
	case store.EventMissed:
		e.Publish(event)
		e.background.Go(func() {
			e.sweeper.within(0)
			e.offerAll(e.queues.names()...)
		})
	}
	e.Flush()
}

func (e *Engine) offerInBackground(name string) {
	if e.queues.waiters(name) > 0 {
		e.background.Go(func() { e.offerAll(name) })
	}
}

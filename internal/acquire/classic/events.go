package classic

import (
	"context"
	"maps"
	"sync"

	"gitlab.com/relukko/relukko-go/api"
)

// events passes broadcasts on to those who hold a lock and to those who wait
// for one. It watches while there are any.
type events struct {
	watch  func(context.Context) (*api.Watch, error)
	ctx    context.Context
	queues *queues
	lists  *lister

	mu        sync.Mutex
	users     int               // holders and waiters
	checks    map[string]func() // of holders, by the id of their lock
	stop      chan struct{}     // closed when nobody is left; nil while nothing is watched
	connected bool              // push is up
	checking  bool              // a List is due that tells which locks are gone
	looking   bool              // a List is due that tells which names are free
}

// hold calls check whenever the lock with this id may have been deleted, until
// stop is called.
func (e *events) hold(id string, check func()) (stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.checks == nil {
		e.checks = make(map[string]func())
	}
	e.checks[id] = check
	e.use()
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.checks, id)
		e.unuse()
	})
}

// wait has broadcasts passed on to the queues until done is called.
func (e *events) wait() (done func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.use()
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.unuse()
	}
}

func (e *events) use() {
	e.users++
	if e.stop != nil {
		return
	}
	watch, err := e.watch(e.ctx)
	if err != nil {
		return // there is no push: waiters poll, and leases have their heartbeats
	}
	e.stop = make(chan struct{})
	go e.run(watch, e.stop)
}

func (e *events) unuse() {
	e.users--
	if e.users == 0 && e.stop != nil {
		close(e.stop)
		e.stop, e.connected = nil, false
	}
}

// pushed reports whether push is up.
func (e *events) pushed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.connected
}

func (e *events) run(watch *api.Watch, stop chan struct{}) {
	defer watch.Close()
	for {
		select {
		case <-stop:
			return
		case event, ok := <-watch.Events():
			if !ok {
				e.mu.Lock()
				if e.stop == stop {
					e.stop, e.connected = nil, false
				}
				e.mu.Unlock()
				return
			}
			e.handle(event, stop)
		}
	}
}

// handle passes one event on.
func (e *events) handle(event api.Event, stop chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop != stop {
		return
	}
	switch event.Kind {
	case api.EventConnected:
		e.connected = true
		e.checkAll()
		for _, q := range e.queues.all() {
			q.notify(hintUnheard)
		}
	case api.EventDisconnected:
		e.connected = false
		for _, q := range e.queues.all() {
			q.notify(hintPush)
		}
	case api.EventCreated, api.EventUpdated:
		if q := e.queues.named(event.Name); q != nil && event.Lock != nil {
			e.queues.tell(q, event.Lock)
		}
	case api.EventDeleted:
		if check := e.checks[event.ID]; check != nil {
			check()
		} else if event.ID == "" {
			e.checkAll()
		}
		if unsure := e.queues.deleted(event.ID, event.Name); len(unsure) > 0 {
			e.look()
		}
	}
}

// checkAll has the holders check whose locks a List no longer has: some lock
// was deleted, or a deletion may have gone unheard. The caller holds e.mu.
func (e *events) checkAll() {
	if e.checking || len(e.checks) == 0 {
		return
	}
	e.checking = true
	e.lists.next(func() func(*listing, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.checking = false // what is heard from here on takes another List
		checks := maps.Clone(e.checks)
		return func(list *listing, err error) {
			if err != nil {
				return // nothing is known; the heartbeats will tell
			}
			for id, check := range checks {
				if list.byID[id] == nil {
					check() // which alone decides, by asking for its own lock
				}
			}
		}
	})
}

// look has a List tell which of the names that are waited for are free. The
// caller holds e.mu.
func (e *events) look() {
	if e.looking {
		return
	}
	e.looking = true
	e.lists.next(func() func(*listing, error) {
		e.mu.Lock()
		e.looking = false
		e.mu.Unlock()
		versions := make(map[*queue]int)
		for _, q := range e.queues.all() {
			versions[q] = q.asking()
		}
		return func(list *listing, err error) {
			for q, version := range versions {
				e.looked(q, version, list, err)
			}
		}
	})
}

func (e *events) looked(q *queue, version int, list *listing, err error) {
	if err != nil {
		q.notify(hintMaybe)
		return
	}
	holder := list.holder(q.name)
	if holder == nil {
		q.notify(hintReleased)
	} else if q.found(holder, version) {
		e.queues.lostRace(q.name)
	}
}

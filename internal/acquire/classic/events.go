package classic

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// fewLocks is how many locks are asked for one by one, rather than by a List of all.
const fewLocks = 4

// events passes broadcasts on to the holders of locks and to the queues. It watches while there are
// any holders or waiters.
type events struct {
	watch  func(context.Context) (*api.Watch, error)
	get    func(context.Context, string, ...api.CallOption) (api.Lock, error)
	ctx    context.Context
	queues *queues
	lists  *lister

	mu        sync.Mutex
	users     int               // holders and waiters
	checks    map[string]func() // of holders, by the id of their lock
	stop      chan struct{}     // closed when no user is left; nil while there is no watch
	connected bool              // push is up
	checking  bool              // checkAll waits for its List, or its Gets, to be sent
	getting   bool              // checkEach runs
	looking   bool              // look waits for its List to be sent
}

// hold calls check whenever the lock with this id may have been deleted, until the caller calls
// stop.
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

// wait passes broadcasts on to the queues until the caller calls done. It does not block.
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
		return // without push, waiters poll and heartbeats find out about deletions
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

// checkAll calls the checks of all locks that the next List does not contain, because some lock was
// deleted or a deletion may have been missed. It asks for each lock where they are few: the backend
// may have many others. The caller holds e.mu.
func (e *events) checkAll() {
	if e.checking || len(e.checks) == 0 {
		return
	}
	e.checking = true
	if e.get != nil && len(e.checks) <= fewLocks {
		if !e.getting {
			e.getting = true
			go e.checkEach()
		}
		return
	}
	e.lists.next(func() func(*listing, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.checking = false // an event from here on needs another List
		checks := maps.Clone(e.checks)
		return func(list *listing, err error) {
			if err != nil {
				return // the heartbeats will find out
			}
			for id, check := range checks {
				if list.byID[id] == nil {
					check() // a hint only: a renewal decides
				}
			}
		}
	})
}

// checkEach calls the checks of the locks that are gone, as long as checkAll asks for that.
func (e *events) checkEach() {
	for {
		e.mu.Lock()
		if !e.checking {
			e.getting = false
			e.mu.Unlock()
			return
		}
		e.checking = false // an event from here on needs another Get
		checks := maps.Clone(e.checks)
		e.mu.Unlock()
		began := time.Now()
		for id, check := range checks {
			ctx, cancel := context.WithTimeout(e.ctx, listTimeout)
			_, err := e.get(ctx, id, api.Once())
			cancel()
			if errors.Is(err, api.ErrGone) {
				check()
			}
		}
		acquire.Sleep(e.ctx, max(listPause, time.Since(began)))
	}
}

// look tells each queue what the next List says about its name. The caller holds e.mu.
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
	if holder == nil || e.queues.isGone(holder) {
		q.notify(hintReleased)
	} else if q.found(holder, version) {
		e.queues.lostRace(q.name)
	}
}

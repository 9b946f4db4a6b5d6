package relukko

import (
	"context"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

const clockCheck = time.Second // between two looks at both clocks

// hub is what the mutexes of one client share: the ear on its WebSocket, the
// one List that looks after all of them, and the eye on the clocks. Without a
// lease or a waiter it is idle: no goroutine, no timer, no connection.
type hub struct {
	client *api.Client
	now    func() instant

	mu        sync.Mutex
	leases    map[string]*lease    // by lock id, from their first heartbeat on
	waiters   map[string]*waiter   // by name
	rivals    map[string]time.Time // when others were last faster, by name
	blind     bool                 // broadcasts do not say which lock was deleted
	leave     chan struct{}        // closed when nobody needs the WebSocket any longer; nil while nobody listens
	connected bool

	listing bool // a List is under way
	suspect bool // since it was sent, some lease may have lost its lock
	unsure  bool // since it was sent, some name that is waited for may have come free
	asking  []ask

	tick *time.Timer
	last instant // when it last ticked
}

func hubOf(client *api.Client) *hub {
	return client.Tasks().Shared(func() any {
		return &hub{
			client:  client,
			now:     bothClocks,
			leases:  make(map[string]*lease),
			waiters: make(map[string]*waiter),
			rivals:  make(map[string]time.Time),
		}
	}).(*hub)
}

// guard watches over a lease: deletions that are broadcast, jumps of the clocks.
func (h *hub) guard(l *lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.state() != nil {
		return // it ended meanwhile, and unguard may have come first
	}
	h.leases[l.info().ID] = l
	h.listen()
	if h.tick == nil {
		h.last = h.now()
		h.tick = time.AfterFunc(clockCheck, h.checkClocks)
	}
}

func (h *hub) unguard(l *lease) {
	id := l.info().ID
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leases[id] != l {
		return
	}
	delete(h.leases, id)
	if len(h.leases) == 0 {
		h.tick.Stop()
		h.tick = nil
	}
	h.rest()
}

// checkClocks finds out that the machine was suspended, since timers do not.
func (h *hub) checkClocks() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tick == nil {
		return
	}
	now := h.now()
	if now.wall.Sub(h.last.wall)-now.mono.Sub(h.last.mono) > clockCheck/4 {
		for _, l := range h.leases {
			l.jumped()
		}
	}
	h.last = now
	h.tick.Reset(clockCheck)
}

// listen opens the ear unless it is open. The caller holds h.mu.
func (h *hub) listen() {
	if h.leave != nil {
		return
	}
	watch, err := h.client.Watch(h.client.Tasks().Context())
	if err != nil {
		return // there is no push: waiters poll, leases have their heartbeats
	}
	h.leave = make(chan struct{})
	go h.hear(watch, h.leave)
}

// rest closes the ear when nobody needs it any longer. The caller holds h.mu.
func (h *hub) rest() {
	if h.leave != nil && len(h.leases)+len(h.waiters) == 0 {
		close(h.leave)
		h.leave, h.connected = nil, false
	}
}

func (h *hub) hear(watch *api.Watch, leave chan struct{}) {
	defer watch.Close()
	for {
		select {
		case <-leave:
			return
		case event, ok := <-watch.Events():
			if !ok {
				h.mu.Lock()
				if h.leave == leave {
					h.leave, h.connected = nil, false
				}
				h.mu.Unlock()
				return
			}
			h.mu.Lock()
			if h.leave == leave {
				h.heard(event)
			}
			h.mu.Unlock()
		}
	}
}

// heard takes in one event. The caller holds h.mu.
func (h *hub) heard(event api.Event) {
	switch event.Kind {
	case api.EventConnected:
		h.connected = true
		h.doubt()
		for _, w := range h.waiters {
			w.notify(wakeLook)
		}
	case api.EventDisconnected:
		h.connected = false
		for _, w := range h.waiters {
			w.notify(wakeState)
		}
	case api.EventCreated, api.EventUpdated:
		if w := h.waiters[event.Name]; w != nil && event.Lock != nil {
			w.tell(copied(event.Lock))
		}
	case api.EventDeleted:
		if l := h.leases[event.ID]; l != nil {
			l.check()
		} else if event.ID == "" {
			h.doubt()
		}
		h.released(event)
	}
}

// doubt has all leases looked after: some lock was deleted, or a deletion may
// have been missed. The caller holds h.mu.
func (h *hub) doubt() {
	if len(h.leases) > 0 {
		h.suspect = true
		h.list()
	}
}

// ask is somebody's question who holds a name.
type ask struct {
	name   string
	answer func(holder *api.Lock, err error) // nil, nil: nobody
}

// whoHolds answers from the next List, on another goroutine.
func (h *hub) whoHolds(name string, answer func(holder *api.Lock, err error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asking = append(h.asking, ask{name, answer})
	h.list()
}

// list sends a List unless one is under way, whose end then sends another. So
// one at a time answers all questions, however many there are. The caller
// holds h.mu.
func (h *hub) list() {
	if h.listing {
		return
	}
	h.listing = true
	go func() {
		for h.listOnce() {
		}
	}()
}

func (h *hub) listOnce() (again bool) {
	h.mu.Lock()
	var suspects map[string]*lease
	if h.suspect {
		suspects = make(map[string]*lease, len(h.leases))
		for id, l := range h.leases {
			suspects[id] = l
		}
	}
	asking := h.asking
	if h.unsure {
		for name, w := range h.waiters {
			asking = append(asking, ask{name, h.look(w)})
		}
	}
	h.suspect, h.unsure, h.asking = false, false, nil
	if len(suspects) == 0 && len(asking) == 0 {
		h.listing = false
		h.mu.Unlock()
		return false
	}
	h.mu.Unlock()

	ctx, cancel := context.WithTimeout(h.client.Tasks().Context(), listTimeout)
	defer cancel()
	began := time.Now()
	locks, err := h.client.List(ctx)
	took := time.Since(began)

	byName := make(map[string]*api.Lock, len(asking))
	for _, a := range asking {
		byName[a.name] = nil
	}
	for i := range locks {
		delete(suspects, locks[i].ID)
		if _, asked := byName[locks[i].Name]; asked {
			byName[locks[i].Name] = &locks[i]
		}
	}
	if err != nil {
		suspects = nil // nothing is known; their heartbeats will tell
	}
	for _, l := range suspects {
		l.check() // it alone decides, by asking for its own lock
	}
	for _, a := range asking {
		a.answer(byName[a.name], err)
	}
	sleep(ctx, max(listPause, took))
	return true
}

const (
	listTimeout = 10 * time.Second
	listPause   = 50 * time.Millisecond // between two Lists when broadcasts keep coming
)

package api

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// EventKind says what an [Event] is about.
type EventKind int

const (
	// EventConnected: push works from here on; whatever happened before may
	// have been missed. It is the first event of each Watch once the WebSocket
	// is up, also when it already was. It also comes in place of events that
	// were dropped because the receiver was slow.
	EventConnected EventKind = iota + 1
	// EventDisconnected: push is down until the next EventConnected. It also
	// comes, once, when there was no connection to begin with.
	EventDisconnected
	EventCreated // a lock was created
	EventUpdated // a lock was changed or kept alive
	EventDeleted // a lock was deleted, by somebody or because it expired
	EventOther   // a message about something else
)

var eventKinds = [...]string{"unknown", "connected", "disconnected", "created", "updated", "deleted", "other"}

// String is the kind in a word, for logs.
func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventKinds) {
		k = 0
	}
	return eventKinds[k]
}

// Event is a message of the backend about a lock, or a change of the
// connection that they come by. Many backends do not say which lock it is:
// then ID and Name are empty, and it may be any.
type Event struct {
	Kind EventKind
	ID   string // the lock's, in lower case; empty where the message did not say
	Name string // the lock's; empty where the message did not say
	Lock *Lock  // the lock, where the message carried a whole valid one; shared, not to be changed
}

func eventOf(e wire.Event) Event {
	kinds := [...]EventKind{
		wire.EventCreated: EventCreated,
		wire.EventUpdated: EventUpdated,
		wire.EventDeleted: EventDeleted,
		wire.EventOther:   EventOther,
	}
	out := Event{Kind: kinds[e.Kind], ID: e.ID, Name: e.Name}
	if e.Lock != nil {
		l := lockOf(e.Lock)
		out.Lock = &l
	}
	return out
}

// watchQueue is how many events wait for a slow receiver.
const watchQueue = 64

// Watch receives the events of a client; see [Client.Watch].
type Watch struct {
	hub    *hub
	events chan Event
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing of the Watch is left
	wake   chan struct{} // has one element when the queue may not be empty

	mu    sync.Mutex
	queue []Event
}

// Watch returns at once, with a Watch that lasts until [Watch.Close], until
// ctx ends, or until the client closes. All Watches of a client share one
// WebSocket, which is opened for the first and closed with the last. It is
// watched by pings and opened again, with backoff, whenever it breaks. Where
// there is none (an answer like 404: an old backend, a proxy that lets none
// through, HTTP/2) that is a normal state, looked at again once a minute at
// the latest.
//
// The events are hints: they can be late or lost, and only asking the backend
// decides. The error is [ErrNoWatch] for a client that does not watch, or
// [ErrClosed].
func (c *Client) Watch(ctx context.Context) (*Watch, error) {
	if err := c.calls.refused(ctx); err != nil {
		return nil, err
	}
	return c.watches.watch(ctx)
}

// Events is closed after Close, after the end of the context that the Watch
// was made with, and after the client is closed. A receiver who is more than
// 64 events late misses those and gets one EventConnected instead.
func (w *Watch) Events() <-chan Event { return w.events }

// Close ends the Watch; the last one closes the WebSocket too, which may take
// a quarter of a second where the network is dark. Further Closes do nothing.
func (w *Watch) Close() {
	w.cancel()
	<-w.done
}

// push hands e to the receiver. It never waits: where the queue is full state,
// the connection's, takes the place of all that is in it.
func (w *Watch) push(e, state Event) {
	w.mu.Lock()
	if len(w.queue) < watchQueue {
		w.queue = append(w.queue, e)
	} else {
		w.queue = append(w.queue[:0], state)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run carries the queue to the receiver.
func (w *Watch) run(ctx context.Context) {
	defer close(w.done)
	defer w.hub.leave(w)
	defer close(w.events)
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		for {
			w.mu.Lock()
			if len(w.queue) == 0 {
				w.mu.Unlock()
				break
			}
			e := w.queue[0]
			w.queue = slices.Delete(w.queue, 0, 1)
			w.mu.Unlock()
			select {
			case w.events <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}

// hub is where the Watches of a client meet their one WebSocket.
type hub struct {
	transport func() *transport
	log       *slog.Logger
	none      bool // there are no Watches

	mu      sync.Mutex
	closed  bool
	watches map[*Watch]struct{}
	socket  *socket   // nil while there are no Watches
	state   EventKind // EventConnected, EventDisconnected, or 0 until either is known
}

func newHub(transport func() *transport, log *slog.Logger) *hub {
	return &hub{transport: transport, log: log, watches: make(map[*Watch]struct{})}
}

func (h *hub) watch(ctx context.Context) (*Watch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.none:
		return nil, ErrNoWatch
	case h.closed:
		return nil, ErrClosed
	}
	w := &Watch{hub: h, events: make(chan Event), done: make(chan struct{}), wake: make(chan struct{}, 1)}
	ctx, w.cancel = context.WithCancel(ctx)
	h.watches[w] = struct{}{}
	if h.socket == nil {
		h.socket = startSocket(h)
	}
	if h.state != 0 {
		w.push(Event{Kind: h.state}, Event{Kind: h.state})
	}
	go w.run(ctx)
	return w, nil
}

// leave takes w out. The last to leave waits for the end of the WebSocket.
func (h *hub) leave(w *Watch) {
	h.mu.Lock()
	delete(h.watches, w)
	s := h.socket
	if s == nil || len(h.watches) > 0 {
		h.mu.Unlock()
		return
	}
	h.socket, h.state = nil, 0
	h.mu.Unlock()
	s.close()
}

// publish hands e, which comes from s, to all.
func (h *hub) publish(s *socket, e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.socket != s {
		return
	}
	if e.Kind == EventConnected || e.Kind == EventDisconnected {
		if h.state == e.Kind {
			return
		}
		h.state = e.Kind
	}
	for w := range h.watches {
		w.push(e, Event{Kind: h.state})
	}
}

// close ends all Watches, for good.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	left := make([]*Watch, 0, len(h.watches))
	for w := range h.watches {
		left = append(left, w)
	}
	h.mu.Unlock()
	for _, w := range left {
		w.cancel()
	}
	for _, w := range left {
		w.Close()
	}
}

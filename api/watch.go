package api

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// watchQueue is how many events wait for a slow receiver.
const watchQueue = 64

// Watch receives the events of a client. [Client.Watch] returns one; the zero Watch is not usable.
type Watch struct {
	watches *watches
	events  chan Event
	cancel  context.CancelFunc
	done    chan struct{} // closed when nothing of the Watch is left
	wake    chan struct{} // has one element when the queue may not be empty

	mu    sync.Mutex
	queue []Event
}

// Events returns the channel of the events. It is closed after Close, after the end of the context
// given to [Client.Watch], and after the client has closed. A receiver that is more than 64 events
// late misses them all and gets one event instead: EventConnected, or EventDisconnected if push is
// down.
func (w *Watch) Events() <-chan Event { return w.events }

// Close ends the Watch. With the last one it closes the WebSocket, which may take 250 ms if the
// network does not respond. Another Close does nothing.
func (w *Watch) Close() {
	w.cancel()
	<-w.done
}

// push hands e to the receiver. It never waits: where the queue is full, state,
// the connection's, replaces all that is in it.
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
	defer w.watches.leave(w)
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

// watches are the Watches of a client, with the one WebSocket that they share.
type watches struct {
	transport func() *transport
	log       *slog.Logger
	none      bool // the client does not watch

	mu     sync.Mutex
	closed bool
	all    map[*Watch]struct{}
	socket *socket   // nil while there are no Watches
	state  EventKind // EventConnected, EventDisconnected, or 0 until either is known
}

func newWatches(transport func() *transport, log *slog.Logger) *watches {
	return &watches{transport: transport, log: log, all: make(map[*Watch]struct{})}
}

func (ws *watches) watch(ctx context.Context) (*Watch, error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	switch {
	case ws.none:
		return nil, ErrNoWatch
	case ws.closed:
		return nil, ErrClosed
	}
	w := &Watch{
		watches: ws,
		events:  make(chan Event),
		done:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
	ctx, w.cancel = context.WithCancel(ctx)
	ws.all[w] = struct{}{}
	if ws.socket == nil {
		ws.socket = startSocket(ws.transport, ws.log, ws.publish)
	}
	if ws.state != 0 {
		w.push(Event{Kind: ws.state}, Event{Kind: ws.state})
	}
	go w.run(ctx)
	return w, nil
}

// leave removes w. The last to leave waits for the end of the WebSocket.
func (ws *watches) leave(w *Watch) {
	ws.mu.Lock()
	delete(ws.all, w)
	s := ws.socket
	if s == nil || len(ws.all) > 0 {
		ws.mu.Unlock()
		return
	}
	ws.socket, ws.state = nil, 0
	ws.mu.Unlock()
	s.close()
}

// publish hands e, which comes from s, to all Watches.
func (ws *watches) publish(s *socket, e Event) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.socket != s {
		return
	}
	if e.Kind == EventConnected || e.Kind == EventDisconnected {
		if ws.state == e.Kind {
			return
		}
		ws.state = e.Kind
	}
	for w := range ws.all {
		w.push(e, Event{Kind: ws.state})
	}
}

// close ends all Watches, for good.
func (ws *watches) close() {
	ws.mu.Lock()
	ws.closed = true
	left := make([]*Watch, 0, len(ws.all))
	for w := range ws.all {
		left = append(left, w)
	}
	ws.mu.Unlock()
	for _, w := range left {
		w.cancel()
	}
	for _, w := range left {
		w.Close()
	}
}

package api

import "context"

// EventKind says what happened.
type EventKind int

const (
	// EventConnected: push works (again); whatever happened before may have been
	// missed. The first event of each Watch once the socket is up, also when it
	// already was up; also sent in place of events that were dropped because the
	// receiver was slow.
	EventConnected EventKind = iota + 1
	// EventDisconnected: push is down until the next EventConnected.
	EventDisconnected
	EventCreated // a lock was created
	EventUpdated // a lock was changed or renewed
	EventDeleted // a lock was deleted, by a client or because it expired
	EventOther   // a message about something else
)

// Event is one broadcast of the backend, or a change of the connection to it.
type Event struct {
	Kind EventKind
	ID   string // of the lock; empty where the broadcast did not say
	Name string // of the lock; empty where the broadcast did not say
	Lock *Lock  // non-nil where the broadcast carried a whole valid lock
}

// Watch receives the broadcasts of the backend; see [Client.Watch].
type Watch struct {
	events chan Event
	cancel context.CancelFunc
	done   chan struct{}
}

// Watch returns at once.
func (c *Client) Watch(ctx context.Context) (*Watch, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	if c.trusted || c.noWatch {
		return nil, ErrNoWatch
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Watch{events: make(chan Event), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		<-ctx.Done()
		close(w.events)
	}()
	return w, nil
}

// Events is closed after Close, or when the context of the Watch ends, or the client closes.
func (w *Watch) Events() <-chan Event { return w.events }

// Close ends the Watch.
func (w *Watch) Close() { w.cancel(); <-w.done }

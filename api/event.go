package api

import "gitlab.com/relukko/relukko-go/internal/wire"

// EventKind says what an [Event] is about.
type EventKind int

const (
	// EventConnected: push works from now on; what happened before may have
	// been missed. It is the first event of each Watch once the WebSocket is
	// up, also when it already was. It also replaces events that were dropped
	// because the receiver was slow.
	EventConnected EventKind = iota + 1
	// EventDisconnected: push is down until the next EventConnected. It also
	// comes, once, when there was no connection to begin with.
	EventDisconnected
	EventCreated // a lock was created
	EventUpdated // a lock was changed or kept alive
	EventDeleted // a lock was deleted, by a client or because it expired
	EventOther   // a message about something else
)

var eventKinds = [...]string{
	"unknown", "connected", "disconnected", "created", "updated", "deleted", "other",
}

// String returns the kind as one word, for logs.
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
	ID   string // the lock's, in lower case; "" where the message did not say
	Name string // the lock's; "" where the message did not say
	Lock *Lock  // where the message had a whole valid lock; shared, not to be changed
}

var eventKindOf = [...]EventKind{
	wire.EventCreated: EventCreated,
	wire.EventUpdated: EventUpdated,
	wire.EventDeleted: EventDeleted,
	wire.EventOther:   EventOther,
}

func eventOf(e wire.Event) Event {
	out := Event{Kind: eventKindOf[e.Kind], ID: e.ID, Name: e.Name}
	if e.Lock != nil {
		l := lockOf(e.Lock)
		out.Lock = &l
	}
	return out
}

package api

import "gitlab.com/relukko/relukko-go/internal/wire"

// EventKind says what an [Event] reports. The zero EventKind is none of the constants.
type EventKind int

const (
	// EventConnected means that push is up. Events before it may have been missed. It is the first
	// event of each Watch once the WebSocket is up, also if it already was. It also replaces events
	// that a slow receiver missed.
	EventConnected EventKind = iota + 1
	// EventDisconnected means that push is down until the next EventConnected. It also comes, once,
	// if the first connection fails.
	EventDisconnected
	EventCreated // a lock was created
	EventUpdated // a lock was changed or kept alive
	EventDeleted // a lock was deleted, by a client or because it expired
	EventOther   // a message about something else
)

var eventKinds = [...]string{
	"unknown", "connected", "disconnected", "created", "updated", "deleted", "other",
}

// String returns the kind as one word.
func (k EventKind) String() string {
	if k < 0 || int(k) >= len(eventKinds) {
		k = 0
	}
	return eventKinds[k]
}

// Event is a message of the backend about a lock, or a change of the connection. Many backends do
// not say which lock it is; then ID and Name are "", and it may be any lock.
type Event struct {
	Kind EventKind
	ID   string // the lock's, in lower case; "" where the message did not say
	Name string // the lock's; "" where the message did not say
	Lock *Lock  // nil unless the message had a whole valid lock; shared: do not change it
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

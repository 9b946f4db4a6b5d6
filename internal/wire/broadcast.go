package wire

import (
	"strconv"
)

// EventKind says what happened to the lock of an [Event].
type EventKind int

const (
	EventCreated EventKind = iota + 1
	EventUpdated           // changed or kept alive
	EventDeleted           // by a client, or because it expired
	EventOther             // the message is about something else
)

var eventMembers = [...]string{
	EventCreated: `created`, EventUpdated: `updated`, EventDeleted: `deleted`,
}

// Event is one thing that a broadcast says. Many backends do not say which lock
// it is about: then ID and Name are empty.
type Event struct {
	Kind EventKind
	ID   string // in lower case
	Name string
	Lock *Lock // where the message has a whole valid one
}

// AppendBroadcast appends the message that l was created, updated or deleted.
// Without a lock it says only that some lock was.
func AppendBroadcast(b []byte, kind EventKind, l *Lock) []byte {
	b = append(b, `{"`...)
	b = append(b, eventMembers[kind]...)
	b = append(b, `":`...)
	if l == nil {
		b = append(b, "true"...)
	} else {
		b = AppendLock(b, l)
	}
	return append(b, '}')
}

// DecodeBroadcast calls emit for each event in a message, deletions first. A
// message that is no JSON object has none; any other has at least one.
func DecodeBroadcast(message []byte, emit func(Event)) {
	s := scan(message)
	var raw [len(eventMembers)][]byte
	count := s.fields(field{"created", &raw[EventCreated]}, field{"updated", &raw[EventUpdated]},
		field{"deleted", &raw[EventDeleted]})
	if count < 0 || !s.end() {
		return
	}
	other := true
	for _, kind := range [...]EventKind{EventDeleted, EventCreated, EventUpdated} {
		if !truthy(raw[kind]) {
			continue
		}
		other = false
		list := scan(raw[kind])
		if !list.array() {
			emit(eventOf(kind, raw[kind]))
			continue
		}
		for list.element() {
			emit(eventOf(kind, list.value()))
		}
	}
	if other {
		emit(Event{Kind: EventOther})
	}
}

// eventOf reads which lock raw is: a lock, a part of one, or a lock's id. A
// string that is no id may be a name, or anything else. Taken for a name it
// would make those that wait for another name miss an event that is theirs. So
// would members beside raw.
func eventOf(kind EventKind, raw []byte) Event {
	e := Event{Kind: kind}
	switch kindOf(raw) {
	case '"':
		e.ID, _ = ParseID(string(decoded(raw)))
	case '{':
		s := scan(raw)
		if l, err := s.lock(&Lock{}); err == nil {
			return Event{Kind: kind, ID: l.ID, Name: l.Name, Lock: &l}
		}
		var id, name []byte
		s = scan(raw)
		s.fields(field{"id", &id}, field{"lock_name", &name})
		e.ID, _ = ParseID(string(decoded(id)))
		e.Name, _ = text(name)
	}
	return e
}

// truthy is the truth of a JSON value in Python, whose programs speak this
// protocol too.
func truthy(raw []byte) bool {
	switch kindOf(raw) {
	case 0, 'f', 'n':
		return false
	case 't':
		return true
	case '"':
		return len(raw) > 2
	case '{', '[':
		s := scan(raw[1:])
		return s.kind() != ']' && s.kind() != '}'
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	return err != nil || f != 0 // too large for a float is infinite
}

package api

import (
	"bytes"
	"encoding/json"
)

// broadcast hands the events in one message to emit. What is not a JSON object
// is ignored.
func broadcast(message []byte, emit func(Event)) {
	if !json.Valid(message) {
		return
	}
	message = bytes.TrimSpace(message)
	if kindOf(message) != '{' {
		return
	}
	about := [...]struct {
		name string
		kind EventKind
		what []byte
	}{{name: "deleted", kind: EventDeleted}, {name: "created", kind: EventCreated}, {name: "updated", kind: EventUpdated}}
	for m := membersOf(message); m.next(); {
		for i := range about {
			if string(m.name) == about[i].name {
				about[i].what = m.value
			}
		}
	}
	other := true
	for _, a := range about {
		if !truthy(a.what) {
			continue
		}
		other = false
		if kindOf(a.what) != '[' {
			emit(eventOf(a.kind, a.what))
			continue
		}
		for e := elementsOf(a.what); e.next(); {
			emit(eventOf(a.kind, e.value))
		}
	}
	if other {
		emit(Event{Kind: EventOther})
	}
}

// eventOf reads which lock what means: a lock, a part of one, or a lock's id.
// A string that is no id may be a name, or anything else: taking it for a name
// would make those who wait for another name miss an event that is theirs. The
// same goes for members beside what.
func eventOf(kind EventKind, what []byte) Event {
	e := Event{Kind: kind}
	switch kindOf(what) {
	case '"':
		s, _ := text(what)
		e.ID, _ = parseID(s)
	case '{':
		if l, err := lockOf(what, &Lock{}); err == nil {
			return Event{Kind: kind, ID: l.ID, Name: l.Name, Lock: &l}
		}
		for m := membersOf(what); m.next(); {
			switch string(m.name) {
			case "id":
				s, _ := text(m.value)
				e.ID, _ = parseID(s)
			case "lock_name":
				e.Name, _ = text(m.value)
			}
		}
	}
	return e
}

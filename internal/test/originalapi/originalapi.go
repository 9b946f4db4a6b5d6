// Package originalapi has what is not known of the original backend, for tests of clients.
package originalapi

import (
	"encoding/json"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// DeletedShapes are the shapes of a broadcast's member deleted that a client has to understand, by
// their names.
func DeletedShapes() map[string]func(wire.Lock) any {
	return map[string]func(wire.Lock) any{
		"true":           func(wire.Lock) any { return true },
		"a number":       func(wire.Lock) any { return 1 },
		"id":             func(l wire.Lock) any { return l.ID },
		"name":           func(l wire.Lock) any { return l.Name },
		"lock":           func(l wire.Lock) any { return whole(l) },
		"part of a lock": func(l wire.Lock) any { return map[string]any{"id": l.ID} },
		"ids":            func(l wire.Lock) any { return []any{l.ID} },
		"locks":          func(l wire.Lock) any { return []any{whole(l)} },
	}
}

func whole(l wire.Lock) json.RawMessage { return wire.AppendLock(nil, &l) }

package httpapi

import (
	"context"
	"encoding/json"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/streamapi"
	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

// api is what all request handlers need.
type api struct {
	Config
	guard     *guard.Guard
	engine    *engine.Engine
	streams   *streamapi.Server
	sockets   sockets
	storeKind string // "" where the store does not say
	broadcast broadcast
	releases  releases
	page      *web.Page // nil: there is none
	pings     pings

	longResponses longResponses

	stopped context.Context // ends when Shutdown begins
	cut     context.Context // ends when Shutdown does not wait for slow watchers any more
}

// onWire returns the lock as it goes over the wire.
func (a *api) onWire(l *store.Lock) wire.Lock {
	out := reply.Lock(l)
	if a.original != nil {
		out.FencingToken, out.Owner = 0, ""
	}
	return out
}

// publish tells the watchers of an event.
func (a *api) publish(e store.Event) {
	if a.page != nil {
		a.page.Publish(e)
	}
	if e.Kind == store.EventReleased {
		a.releases.add(&e.Lock)
		return
	}
	if a.broadcast.watchers.Load() == 0 {
		return
	}
	if message := a.message(e); message != nil {
		a.broadcast.publish(message)
	}
}

// message returns the event in JSON; nil if the watchers are not told of it.
func (a *api) message(e store.Event) []byte {
	switch {
	case e.Kind == store.EventMissed: // watchers look again, as after the deletion of any lock
		return wire.AppendBroadcast(nil, wire.EventDeleted, nil)
	case a.original == nil:
		l := a.onWire(&e.Lock)
		return wire.AppendBroadcast(make([]byte, 0, 512), eventKinds[e.Kind], &l)
	case e.Kind != store.EventDeleted:
		return nil
	case a.original.Deleted == nil:
		return wire.AppendBroadcast(nil, wire.EventDeleted, nil)
	}
	message, err := json.Marshal(map[string]any{"deleted": a.original.Deleted(a.onWire(&e.Lock))})
	if err != nil {
		a.Log.Error("Original.Deleted returned something that is not JSON", "error", err)
		return nil
	}
	return message
}

var eventKinds = map[store.EventKind]wire.EventKind{
	store.EventCreated: wire.EventCreated,
	store.EventUpdated: wire.EventUpdated,
	store.EventDeleted: wire.EventDeleted,
}

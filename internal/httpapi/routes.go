package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// methods are what a path offers.
type methods map[string]handler

// handler handles a request of a client that was admitted.
type handler func(http.ResponseWriter, *http.Request, *guard.Client)

// reads is a handler that only reads, which every client may.
func reads(handle http.HandlerFunc) handler {
	return func(w http.ResponseWriter, r *http.Request, _ *guard.Client) { handle(w, r) }
}

// routes returns the whole API. Its patterns have no methods, so that a wrong one is answered in
// JSON too.
func (a *api) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, offered methods) {
		mux.HandleFunc(pattern, a.admitted(dispatch(offered)))
	}
	list, get := reads(a.list), reads(a.get)
	locks := methods{"GET": list, "HEAD": list, "POST": a.create}
	handle("/v1/locks", locks)
	handle("/v1/locks/{$}", locks)
	handle("/v1/locks/{id}", methods{"GET": get, "HEAD": get, "PUT": a.update, "DELETE": a.delete})
	handle("/v1/locks/{id}/keep_alive", methods{"GET": a.keepAlive, "PUT": a.keepAlive})
	handle("/v1/locks/{id}/add_to_expire_at", methods{"GET": a.addToExpiry, "PUT": a.addToExpiry})
	if a.original == nil {
		waiting := methods{"GET": reads(a.waiting), "HEAD": reads(a.waiting)}
		handle("/v1/waiting", waiting)
		handle("/v1/waiting/{$}", waiting)
		history := methods{"GET": reads(a.history), "HEAD": reads(a.history)}
		handle("/v1/history", history)
		handle("/v1/history/{$}", history)
		handle(wire.BackupPath, methods{"GET": a.backup})
		handle(wire.StreamPath, methods{"GET": a.stream})
	}
	if a.original == nil || !a.original.NoSocket {
		handle("/ws/broadcast", methods{"GET": a.watch})
	}
	health := dispatch(methods{"GET": reads(a.health), "HEAD": reads(a.health)})
	mux.HandleFunc("/healthchecker", func(w http.ResponseWriter, r *http.Request) {
		health(w, r, nil)
	})
	mux.HandleFunc("/", a.notFound)
	return mux
}

// admitted refuses requests without one of the keys.
func (a *api) admitted(handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		client, err := a.guard.Admit(r.Header.Get(wire.HeaderAPIKey),
			guard.Origin{IP: a.clientAddress(r), Agent: r.UserAgent()})
		if err != nil {
			a.fail(w, r, err, "")
			return
		}
		handle(w, r, client)
	}
}

// dispatch calls the handler of the request's method.
func dispatch(offered methods) handler {
	var allowed []string
	for method := range offered {
		allowed = append(allowed, method)
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	return func(w http.ResponseWriter, r *http.Request, client *guard.Client) {
		handle := offered[r.Method]
		if handle == nil {
			w.Header().Set("Allow", allow)
			writeError(w, http.StatusMethodNotAllowed,
				r.Method+" is not allowed here, only "+allow)
			return
		}
		handle(w, r, client)
	}
}

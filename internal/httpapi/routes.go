package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// methods are what a path offers.
type methods map[string]http.HandlerFunc

// routes returns the whole API. Its patterns have no methods, so that a wrong one is answered in
// JSON too.
func (a *api) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, offered methods) {
		mux.HandleFunc(pattern, a.authorised(a.dispatch(offered)))
	}
	locks := methods{"GET": a.list, "HEAD": a.list, "POST": a.create}
	handle("/v1/locks", locks)
	handle("/v1/locks/{$}", locks)
	handle("/v1/locks/{id}",
		methods{"GET": a.get, "HEAD": a.get, "PUT": a.update, "DELETE": a.delete})
	handle("/v1/locks/{id}/keep_alive", methods{"GET": a.keepAlive, "PUT": a.keepAlive})
	handle("/v1/locks/{id}/add_to_expire_at", methods{"GET": a.addToExpiry, "PUT": a.addToExpiry})
	if a.original == nil {
		waiting := methods{"GET": a.waiting, "HEAD": a.waiting}
		handle("/v1/waiting", waiting)
		handle("/v1/waiting/{$}", waiting)
		history := methods{"GET": a.history, "HEAD": a.history}
		handle("/v1/history", history)
		handle("/v1/history/{$}", history)
		handle(wire.StreamPath, methods{"GET": a.stream})
	}
	if a.original == nil || !a.original.NoSocket {
		handle("/ws/broadcast", methods{"GET": a.watch})
	}
	mux.HandleFunc("/healthchecker", a.dispatch(methods{"GET": a.health, "HEAD": a.health}))
	mux.HandleFunc("/", a.notFound)
	return mux
}

// authorised refuses requests without one of the keys.
func (a *api) authorised(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.admitted(r) {
			a.Log.Warn("refused: wrong or missing X-API-KEY",
				"ip", a.clientAddress(r), "method", r.Method, "path", r.URL.Path)
			writeError(w, http.StatusForbidden, "wrong or missing X-API-KEY")
			return
		}
		handle(w, r)
	}
}

// admitted reports whether the request carries one of the keys.
func (a *api) admitted(r *http.Request) bool { return a.admits(keyHash(r)) }

// dispatch calls the handler of the request's method.
func (a *api) dispatch(offered methods) http.HandlerFunc {
	var allowed []string
	for method := range offered {
		allowed = append(allowed, method)
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		handle := offered[r.Method]
		if handle == nil {
			w.Header().Set("Allow", allow)
			writeError(w, http.StatusMethodNotAllowed,
				r.Method+" is not allowed here, only "+allow)
			return
		}
		handle(w, r)
	}
}

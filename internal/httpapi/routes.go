package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// methods are what a path offers.
type methods map[string]handler

// routes returns the whole API. Its patterns have no methods, so that a wrong one is answered in
// JSON too.
func (a *api) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, offered methods) {
		mux.HandleFunc(pattern, a.admitted(dispatch(offered)))
	}
	list, get := a.counted(a.locks), a.counted(reads(a.get))
	locks := methods{"GET": list, "HEAD": list, "POST": a.counted(a.create)}
	handle("/v1/locks", locks)
	handle("/v1/locks/{$}", locks)
	handle("/v1/locks/{id}", methods{"GET": get, "HEAD": get, "PUT": a.update, "DELETE": a.delete})
	handle("/v1/locks/{id}/keep_alive", methods{"GET": a.keepAlive, "PUT": a.keepAlive})
	handle("/v1/locks/{id}/add_to_expire_at", methods{"GET": a.addToExpiry, "PUT": a.addToExpiry})
	if a.original == nil {
		list := a.counted(a.long(reads(a.waiting)))
		waiting := methods{"GET": list, "HEAD": list}
		handle("/v1/waiting", waiting)
		handle("/v1/waiting/{$}", waiting)
		list = a.counted(a.long(reads(a.history)))
		history := methods{"GET": list, "HEAD": list}
		handle("/v1/history", history)
		handle("/v1/history/{$}", history)
		handle(wire.BackupPath, methods{"GET": a.backup})
		handle(wire.StreamPath, methods{"GET": a.stream})
	}
	if a.original == nil || !a.original.NoSocket {
		handle("/ws/broadcast", methods{"GET": a.watch})
	}
	for path, check := range map[string]http.HandlerFunc{
		healthPath: a.health, readyPath: a.ready, livePath: live,
	} {
		checks := dispatch(methods{"GET": reads(check), "HEAD": reads(check)})
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { checks(w, r, nil) })
	}
	if a.page != nil {
		for _, path := range web.Paths {
			mux.HandleFunc(path, a.servePage)
		}
	}
	mux.HandleFunc("/", a.notFound)
	return mux
}

// admitted refuses requests without one of the keys.
func (a *api) admitted(handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		client, err := a.guard.Admit(r.Header.Get(wire.HeaderAPIKey), a.origin(r))
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

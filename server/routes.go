package server

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

// methods are what a path offers.
type methods map[string]http.HandlerFunc

// routes is the whole API. Patterns carry no method, so that a wrong one is answered in JSON too.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, offered methods) {
		var allowed []string
		for method := range offered {
			allowed = append(allowed, method)
		}
		slices.Sort(allowed)
		allow := strings.Join(allowed, ", ")
		open := pattern == "/healthchecker"
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !open && !s.admitted(r) {
				s.log.Warn("refused: wrong or missing X-API-KEY", "ip", peer(r), "method", r.Method, "path", r.URL.Path)
				writeError(w, http.StatusForbidden, "wrong or missing X-API-KEY")
				return
			}
			handler := offered[r.Method]
			if handler == nil {
				w.Header().Set("Allow", allow)
				writeError(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here, only "+allow)
				return
			}
			handler(w, r)
		})
	}

	locks := methods{"GET": s.list, "HEAD": s.list, "POST": s.create}
	handle("/v1/locks", locks)
	handle("/v1/locks/{$}", locks)
	handle("/v1/locks/{id}", methods{"GET": s.get, "HEAD": s.get, "PUT": s.update, "DELETE": s.remove})
	handle("/v1/locks/{id}/keep_alive", methods{"GET": s.keepAlive, "PUT": s.keepAlive})
	handle("/v1/locks/{id}/add_to_expire_at", methods{"GET": s.addToExpiry, "PUT": s.addToExpiry})
	if s.has(ExtCallOff) {
		handle("/v1/waiting/{mark}", methods{"DELETE": s.callOff})
	}
	handle("/ws/broadcast", methods{"GET": s.watch})
	handle("/healthchecker", methods{"GET": s.health, "HEAD": s.health})
	mux.HandleFunc("/", s.notFound)
	return mux
}

// notFound answers with a third member beside status and message: with these two alone a 404 says that a lock is gone, which
// nobody is to believe whose base URL is wrong.
func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	b := appendError(nil, http.StatusNotFound, "there is nothing at "+r.URL.Path)
	b = appendString(append(b[:len(b)-1], `,"path":`...), r.URL.Path)
	writeJSON(w, http.StatusNotFound, append(b, '}'))
}

// clean tells whether the path is one that the mux takes as it is.
func clean(p string) bool {
	cleaned := path.Clean(p)
	return p == cleaned || len(p) == len(cleaned)+1 && strings.HasSuffix(p, "/") && p[:len(cleaned)] == cleaned
}

package relukkotest

import (
	"net/http"
	"strings"
)

// On returns a Match for requests with this method whose path begins with pathPrefix. An empty
// string matches any. As in patterns of [http.ServeMux], {id} matches the id of a lock, and {$} the
// end of the path.
//
//	On("POST", "/v1/locks/")                 // create
//	On("GET", "/v1/locks/{$}")               // list
//	On("PUT", "/v1/locks/{id}/keep_alive")   // heartbeat
//	On("DELETE", "/v1/locks/")               // release
//	On("GET", "/ws/")                        // open a WebSocket
func On(method, pathPrefix string) Match {
	return func(r *http.Request) bool {
		return covers(method, pathPrefix, r.Method, r.URL.Path)
	}
}

func covers(method, pathPrefix, requestMethod, path string) bool {
	if method != "" && method != requestMethod {
		return false
	}
	pattern := route(path)
	if exact, ok := strings.CutSuffix(pathPrefix, "{$}"); ok {
		return exact == path || exact == pattern
	}
	return strings.HasPrefix(path, pathPrefix) || strings.HasPrefix(pattern, pathPrefix)
}

// route returns the path with the name of its variable part in place of it.
func route(path string) string {
	if path == "/v1/locks" {
		return "/v1/locks/"
	}
	id, ok := strings.CutPrefix(path, "/v1/locks/")
	if !ok || id == "" {
		return path
	}
	_, rest, more := strings.Cut(id, "/")
	if more {
		rest = "/" + rest
	}
	return "/v1/locks/{id}" + rest
}

// Requests returns how many requests that [On] would match have arrived so far. Requests to which a
// fault responded count; requests lost on a dark link do not.
func (s *Server) Requests(method, pathPrefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for at, count := range s.requests {
		if covers(method, pathPrefix, at.method, at.path) {
			n += count
		}
	}
	return n
}

// WebSockets returns how many WebSockets have been opened so far.
func (s *Server) WebSockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// OpenWebSockets returns how many WebSockets are open now.
func (s *Server) OpenWebSockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets)
}

const streamPath = "/v1/stream"

func isWebSocket(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/ws/") || r.URL.Path == streamPath
}

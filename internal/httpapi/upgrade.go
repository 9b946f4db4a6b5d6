package httpapi

import (
	"net/http"
	"strings"
)

const maxSockets = 10_000 // WebSockets, broadcasts and streams together; more are refused

// upgrade returns the response to a request for a WebSocket. The caller must call its end. If there
// are too many, it has responded, and reports false.
func (a *api) upgrade(w http.ResponseWriter) (*upgrade, bool) {
	if a.sockets.Add(1) > maxSockets {
		a.sockets.Add(-1)
		retryLater(w, http.StatusServiceUnavailable, "too many WebSockets are open on this server: try again later")
		return nil, false
	}
	return &upgrade{ResponseWriter: w, api: a}, true
}

// upgrade is the response to a request for a WebSocket. It turns the plain text of a refusal into
// JSON, as all errors are, and counts the WebSocket.
type upgrade struct {
	http.ResponseWriter
	api    *api
	status int
	text   strings.Builder
}

func (u *upgrade) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		u.ResponseWriter.WriteHeader(status)
		return
	}
	u.status = status
}

func (u *upgrade) Write(p []byte) (int, error) { return u.text.Write(p) }

// Unwrap lets the WebSocket take over the connection.
func (u *upgrade) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// end writes the refusal, if there was one, or ends the WebSocket's being counted.
func (u *upgrade) end() {
	u.api.sockets.Add(-1)
	if u.status != 0 {
		writeError(u.ResponseWriter, u.status, strings.TrimSpace(u.text.String()))
	}
}

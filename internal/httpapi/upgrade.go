package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/guard"
)

// upgrade returns the response to a request for a WebSocket. The caller must call its end. If there
// are too many, it has responded, and reports false. The client is nil for one that may look at the
// page without a key: these count as those of one name.
func (a *api) upgrade(w http.ResponseWriter, client *guard.Client) (*upgrade, bool) {
	name, admin := "", false
	if client != nil {
		name, admin = client.Name(), client.Admin()
	}
	all, named := a.sockets.add(name, 1)
	switch {
	case all > maxSockets:
		retryLater(w, http.StatusServiceUnavailable, fmt.Sprintf(
			"this server has %d WebSockets, the most that it allows: try again later", maxSockets))
	case named > maxSocketsNamed && !admin:
		retryLater(w, http.StatusTooManyRequests, fmt.Sprintf("keys of this name have %d "+
			"WebSockets, the most that this server allows: try again later", maxSocketsNamed))
	default:
		return &upgrade{ResponseWriter: w, api: a, name: name}, true
	}
	a.sockets.add(name, -1)
	return nil, false
}

// upgrade is the response to a request for a WebSocket. It turns the plain text of a refusal into
// JSON, as all errors are, and counts the WebSocket.
type upgrade struct {
	http.ResponseWriter
	api    *api
	name   string // of the client's key
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
	u.api.sockets.add(u.name, -1)
	if u.status != 0 {
		writeError(u.ResponseWriter, u.status, strings.TrimSpace(u.text.String()))
	}
}

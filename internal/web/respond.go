package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/server/store"
)

// refusal is an error that the page shows as it is.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return "relukko: " + e.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// fail writes the response to a script's request, about the lock of that name, that ended with err.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error, name string) {
	if said, ok := errors.AsType[*refusal](err); ok {
		writeError(w, said.status, said.text)
		return
	}
	if errors.Is(err, store.ErrGone) {
		writeError(w, http.StatusNotFound, "This lock does not exist any more: it was released, "+
			"or has expired.")
		return
	}
	about := ""
	if name != "" {
		about = reply.Name(name)
	}
	said := reply.Refuse(err, about)
	if said.Level > reply.Unlogged {
		p.Log.Log(r.Context(), said.Level, said.Message, "method", r.Method, "path", r.URL.Path,
			"error", err)
	}
	writeError(w, said.Status, strings.ToUpper(said.Message[:1])+said.Message[1:]+".")
}

func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{text})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil { // a year that RFC 3339 cannot express
		status, b = http.StatusInternalServerError, []byte(`{"error":"internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // fails only if the client is gone
}

package httpapi

import (
	"encoding/json"
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// waiting lists the requests that wait, on all servers of the store, in the order in which they
// will be served.
func (a *api) waiting(w http.ResponseWriter, r *http.Request) {
	waiters, err := a.engine.Waiting(r.Context())
	if err != nil {
		a.fail(w, r, err, "")
		return
	}
	out := make([]wire.Waiter, len(waiters))
	for i, s := range waiters {
		out[i] = wire.Waiter{
			Names: s.Names, Creator: s.Creator, IP: s.IP, Owner: s.Owner, Priority: s.Priority,
			Since: s.Since,
		}
	}
	body, _ := json.Marshal(out) // strings, numbers and times of today always marshal
	writeJSON(w, http.StatusOK, body)
}

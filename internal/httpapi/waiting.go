package httpapi

import (
	"encoding/json"
	"net/http"
	"time"
)

// waiting lists the requests that wait, on all servers of the store, in the order in which they
// will be served.
func (a *api) waiting(w http.ResponseWriter, r *http.Request) {
	type waiter struct {
		Names    []string  `json:"lock_names"`
		Creator  *string   `json:"creator"`
		IP       string    `json:"ip"`
		Owner    string    `json:"owner"`
		Priority int       `json:"priority"`
		Since    time.Time `json:"since"`
	}
	waiters, err := a.engine.Waiting(r.Context())
	if err != nil {
		a.fail(w, r, err, "")
		return
	}
	out := make([]waiter, len(waiters))
	for i, s := range waiters {
		out[i] = waiter{s.Names, s.Creator, s.IP, s.Owner, s.Priority, s.Since}
	}
	body, _ := json.Marshal(out) // strings, numbers and times of today always marshal
	writeJSON(w, http.StatusOK, body)
}

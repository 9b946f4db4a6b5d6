package httpapi

import (
	"context"
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/internal/reply"
)

const (
	healthPath   = "/healthchecker"
	readyPath    = "/readyz"
	livePath     = "/livez"
	readyTimeout = 2 * time.Second // for the store to respond
)

// health is the check of the original backend.
func (a *api) health(w http.ResponseWriter, r *http.Request) {
	if err := a.engine.Ping(r.Context()); err != nil {
		a.fail(w, r, err, "")
		return
	}
	writeJSON(w, http.StatusOK, []byte(`{"status":200,"message":"up"}`))
}

// live reports that the process handles requests.
func live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, []byte(`{"status":200,"message":"live"}`))
}

// ready reports whether the store responds. While the server shuts down, all requests but those of
// livePath are refused.
func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	ping := a.pings.join(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
		defer cancel()
		return a.engine.Ping(ctx)
	})
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-ping.done:
		if ping.err == nil {
			writeJSON(w, http.StatusOK, []byte(`{"status":200,"message":"ready"}`))
			return
		}
		refusal := reply.Refuse(ping.err, "")
		a.Log.Log(r.Context(), refusal.Level, "not ready", "error", ping.err)
		retryLater(w, http.StatusServiceUnavailable, refusal.Message)
	case <-timer.C:
		retryLater(w, http.StatusServiceUnavailable,
			"the store has not responded within "+readyTimeout.String())
	}
}

package httpapi

import (
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/guard"
)

// stream upgrades to a stream.
func (a *api) stream(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	upgrade, ok := a.upgrade(w, client)
	if !ok {
		return
	}
	defer upgrade.end()
	a.streams.Serve(upgrade, r, client)
}

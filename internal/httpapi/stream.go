package httpapi

import (
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/streamapi"
)

// The name and the role of each key, as long as all keys may do everything.
const (
	keyName = "default"
	keyRole = "admin"
)

// stream upgrades to a stream.
func (a *api) stream(w http.ResponseWriter, r *http.Request) {
	upgrade, ok := a.upgrade(w)
	if !ok {
		return
	}
	defer upgrade.end()
	sum := keyHash(r)
	a.streams.Serve(upgrade, r, streamapi.Client{
		Key: keyName, Role: keyRole, IP: a.clientAddress(r),
		Admitted: func() bool { return a.admits(sum) },
	})
}

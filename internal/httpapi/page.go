package httpapi

import (
	"net/http"
	"slices"

	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/server/access"
)

// withPage adds the page's own key, if there is a page.
func (a *api) withPage(keys []access.Key) []access.Key {
	if a.page == nil {
		return keys
	}
	return append(slices.Clone(keys), a.page.Key())
}

// shown returns what the page shows.
func (a *api) shown() web.Backend {
	return web.Backend{
		Engine: a.engine, Guard: a.guard, Log: a.Log, Origin: a.origin, Proxied: a.proxied,
		Stopped: a.stopped, Cut: a.cut,
	}
}

// servePage serves a request for the page. Its WebSockets count as others do.
func (a *api) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		a.page.ServeHTTP(w, r)
		return
	}
	upgrade, ok := a.upgrade(w, a.page.Client(r))
	if !ok {
		return
	}
	defer upgrade.end()
	a.page.ServeHTTP(upgrade, r)
}

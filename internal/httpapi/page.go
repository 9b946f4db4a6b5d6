package httpapi

import (
	"net/http"
	"slices"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/server/access"
)

// withPage adds the page's own key, if there is a page.
func (h *Handler) withPage(keys []access.Key) []access.Key {
	if h.page == nil {
		return keys
	}
	return append(slices.Clone(keys), h.page.Key())
}

// startPage connects the page to the engine, if there is one.
func (h *Handler) startPage() {
	if h.page == nil {
		return
	}
	h.page.Start(web.Backend{
		Engine: h.engine, Guard: h.guard, Log: h.Log, Origin: h.origin, Proxied: h.proxied,
		Stopped: h.stopped, Cut: h.cut,
	})
	h.background.Go(h.page.Run)
}

// SignInLink returns the path of a page on which somebody can sign in once, within 5 min; "" if
// there is no page.
func (h *Handler) SignInLink() string {
	if h.page == nil {
		return ""
	}
	return h.page.Link()
}

// servePage serves a request for the page. Its WebSockets count as others do.
func (a *api) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		a.page.ServeHTTP(w, r)
		return
	}
	upgrade, ok := a.upgrade(w)
	if !ok {
		return
	}
	defer upgrade.end()
	a.page.ServeHTTP(upgrade, r)
}

// origin returns where a request comes from.
func (a *api) origin(r *http.Request) guard.Origin {
	return guard.Origin{IP: a.clientAddress(r), Agent: r.UserAgent()}
}

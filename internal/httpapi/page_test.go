package httpapi

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/web"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// The WebSockets of pages are limited together with the others.
func TestThePageCountsItsWebSockets(t *testing.T) {
	c := DefaultConfig()
	c.Page = &web.Config{PublicView: true}
	h := New(memstore.New(), c)
	defer func() { require.NoError(t, h.Shutdown(t.Context())) }()
	open := func() *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/page/live", nil)
		r.Header.Set("Upgrade", "websocket")
		h.ServeHTTP(w, r)
		return w
	}
	require.Equal(t, 426, open().Code, "no whole request for a WebSocket")
	h.sockets.add("others", maxSockets-maxSocketsNamed)
	h.sockets.add("", maxSocketsNamed-1)
	require.Equal(t, 426, open().Code)
	h.sockets.add("", 1)
	require.Equal(t, 503, open().Code)
	h.sockets.add("others", -1)
	require.Equal(t, 429, open().Code, "one name takes half of them at most, also that of nobody")
	all, public := h.sockets.add("", 0)
	require.Equal(t, maxSockets-1, all)
	require.Equal(t, maxSocketsNamed, public)
}

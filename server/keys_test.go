package server_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

func TestSetKeys(t *testing.T) {
	t.Parallel()
	s := server.New(memstore.New(), server.WithAPIKeys("old", "older"))
	defer s.Shutdown(t.Context())
	lists := func(key string) int {
		r := httptest.NewRequest("GET", "/v1/locks/", nil)
		r.Header.Set("X-API-KEY", key)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusOK, lists("old"))
	s.SetKeys(access.Admins("new", "")...)
	require.Equal(t, http.StatusOK, lists("new"))
	require.Equal(t, http.StatusForbidden, lists("old"))
	require.Equal(t, http.StatusForbidden, lists(""))
	s.SetKeys()
	require.Equal(t, http.StatusForbidden, lists("new"))
}

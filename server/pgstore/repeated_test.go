package pgstore_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A proxy before two servers may repeat a DELETE at the second one: its holder is answered as the
// first time, and nobody else.
func TestARepeatedReleaseReachesAnotherServer(t *testing.T) {
	nodes, _ := startNodes(t, 2)
	const mark, other = "k3v5x2m4q7ab", "aaaaaaaaaaaa"
	request := func(n *node, method, path, mark, body string) int {
		req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		req.Header.Set("X-API-KEY", "key")
		req.Header.Set("Relukko-Mark", mark)
		rec := httptest.NewRecorder()
		n.srv.ServeHTTP(rec, req)
		return rec.Code
	}
	const body = `{"lock_name":"arm","creator":"me #` + mark + `"}`
	require.Equal(t, http.StatusCreated, request(nodes[0], "POST", "/v1/locks/", "", body))
	lock, err := nodes[0].st.Holder(t.Context(), "arm")
	require.NoError(t, err)
	id := lock.ID
	require.Equal(t, http.StatusOK, request(nodes[0], "DELETE", "/v1/locks/"+id, mark, ""))
	require.Eventually(t, func() bool {
		return request(nodes[1], "DELETE", "/v1/locks/"+id, mark, "") == http.StatusOK
	}, soon, time.Millisecond)
	for _, n := range nodes {
		require.Equal(t, http.StatusNotFound, request(n, "DELETE", "/v1/locks/"+id, other, ""))
		require.Equal(t, http.StatusNotFound, request(n, "DELETE", "/v1/locks/"+id, "", ""))
	}
}

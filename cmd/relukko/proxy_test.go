//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The failure of a proxy is not reported as that of the backend.
func TestAProxyIsNamed(t *testing.T) {
	t.Parallel()
	forbids := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "<html>not allowed</html>", http.StatusForbidden)
	}))
	t.Cleanup(forbids.Close)
	for name, row := range map[string]struct{ url, proxy, says string }{
		"dead": {"http://192.0.2.7:3000", "http://ada:secret@127.0.0.1:1",
			"through the proxy http://127.0.0.1:1: proxyconnect tcp: dial tcp 127.0.0.1:1: " +
				"connect: connection refused. Check HTTP_PROXY and HTTPS_PROXY"},
		"dead, https": {"https://192.0.2.7:3000", "http://127.0.0.1:1",
			"through the proxy http://127.0.0.1:1: "},
		"no such host": {"http://192.0.2.7:3000", "http://nowhere.invalid:3128",
			"through the proxy http://nowhere.invalid:3128: nowhere.invalid: "},
		"it forbids": {"http://192.0.2.7:3000", forbids.URL,
			"probably the proxy " + forbids.URL + ", answered 403 Forbidden"},
		"it forbids, https": {"https://192.0.2.7:3000", forbids.URL,
			"through the proxy " + forbids.URL + ": "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := []string{envURL + "=" + row.url, envKey + "=k",
				"HTTP_PROXY=" + row.proxy, "HTTPS_PROXY=" + row.proxy}
			for _, args := range [][]string{{"ls", "--timeout", "2s"},
				{"run", "--no-wait", "x", "--", "true"}} {
				status, _, stderr := run(t, env, args...)
				require.Equal(t, 69, status, stderr)
				require.Contains(t, stderr, "no answer from "+row.url)
				require.Contains(t, stderr, row.says)
				require.NotContains(t, stderr, "secret")
				for line := range strings.Lines(stderr) {
					require.Contains(t, line, "proxy http://")
				}
			}
		})
	}
}

//go:build unix

package proxies

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// The page works behind nginx under the name that the browser knows, over TCP and a Unix socket: it
// signs in, and its WebSocket opens for the origin of that name alone.
func TestPage(t *testing.T) {
	t.Parallel()
	socket := "unix:" + filepath.Join(folder, "page.sock")
	serveOn(t, socket)
	for _, backend := range []string{serve(t), socket} {
		p := recommended(t, backend)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		const host = "relukko.example:8080"
		form := strings.NewReader(url.Values{"key": {key}}.Encode())
		r, err := http.NewRequest(http.MethodPost, p.url+"/sign-in", form)
		require.NoError(t, err)
		r.Host = host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://"+host)
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusSeeOther, resp.StatusCode)
		require.Len(t, resp.Cookies(), 1)
		cookie := resp.Cookies()[0]
		require.Equal(t, "relukko-8080", cookie.Name)

		for origin, opens := range map[string]bool{
			"http://" + host: true, "http://evil.example": false, p.url: false,
		} {
			conn, resp, err := websocket.Dial(t.Context(), p.url+"/page/live",
				&websocket.DialOptions{
					HTTPClient: &http.Client{Transport: transport}, Host: host,
					HTTPHeader: http.Header{"Origin": {origin},
						"Cookie": {cookie.Name + "=" + cookie.Value}},
				})
			require.Equal(t, opens, err == nil, "%s: %v", origin, err)
			if !opens {
				require.Equal(t, http.StatusForbidden, resp.StatusCode)
				continue
			}
			_, message, err := conn.Read(t.Context())
			require.NoError(t, err)
			require.Contains(t, string(message), `"full":true,"user":"default","role":"admin"`)
			conn.CloseNow()
		}
	}
}

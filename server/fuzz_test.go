package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever is asked, the answer is well formed: of the API's own statuses, in
// JSON, never a 5xx, and no lock is left that a List does not show.
func FuzzRequest(f *testing.F) {
	for _, s := range []struct{ method, path, prefer, body string }{
		{"POST", "/v1/locks/", "", `{"lock_name":"arm","creator":"me #mark"}`},
		{"POST", "/v1/locks", "wait=30", `{"lock_name":"held","creator":null}`},
		{"GET", "/v1/locks/", "", ""},
		{"HEAD", "/v1/locks/950daa20-a814-451e-9407-ec496cf9c136", "", ""},
		{"PUT", "/v1/locks/ID", "", `{"creator":null,"expires_at":"2099-12-31T12:34:56.789000+00:00"}`},
		{"PUT", "/v1/locks/ID/keep_alive", "", `{"seconds":-1e9}`},
		{"PUT", "/v1/locks/ID/add_to_expire_at", "", `{"seconds":3155760000}`},
		{"GET", "/v1/locks/ID/add_to_expire_at", "", ""},
		{"DELETE", "/v1/locks/ID", "", `{}`},
		{"DELETE", "/v1/waiting/mark", "", ""},
		{"GET", "/ws/broadcast", "", ""},
		{"OPTIONS", "*", "", ""},
		{"GET", "/v1/locks/../locks//%2e%2e/", "", ""},
		{"GET", "/healthchecker", "", strings.Repeat("x", 70<<10)},
	} {
		f.Add(s.method, s.path, s.prefer, s.body)
	}
	f.Fuzz(func(t *testing.T, method, path, prefer, body string) {
		s := New(NewMemoryStore(), WithAPIKeys("key"))
		defer s.Shutdown(t.Context())
		ask := func(method, path, prefer, body string) *http.Response {
			u, err := url.ParseRequestURI(path)
			if err != nil || path == "*" || method == "" || strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r > '~' }) {
				return nil // net/http lets none of these through
			}
			r := httptest.NewRequest("GET", "/", strings.NewReader(body))
			r.Method, r.URL, r.RequestURI = method, u, path
			r.Header.Set("X-API-KEY", "key")
			if prefer != "" {
				r.Header.Set("Prefer", strings.ReplaceAll(strings.ToLower(prefer), "wait", "tarry")) // the wait itself is tested elsewhere
			}
			out := httptest.NewRecorder()
			s.ServeHTTP(out, r)
			return out.Result()
		}
		var held struct {
			ID      string    `json:"id"`
			Expires time.Time `json:"expires_at"`
		}
		require.NoError(t, json.NewDecoder(ask("POST", "/v1/locks/", "", `{"lock_name":"held","creator":"somebody"}`).Body).Decode(&held))

		answer := ask(method, strings.ReplaceAll(path, "ID", held.ID), prefer, body)
		if answer == nil {
			return
		}
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Contains(t, []int{200, 201, 204, 301, 307, 308, 400, 404, 405, 409, 410, 413, 422, 426, 501}, answer.StatusCode, "%s", text)
		if method != "HEAD" && len(text) > 0 && answer.StatusCode/100 != 3 {
			require.True(t, json.Valid(text), "%s", text)
			require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
		}
		if answer.StatusCode >= 400 && method != "HEAD" {
			var said struct {
				Status  int
				Message string
			}
			require.NoError(t, json.Unmarshal(text, &said))
			require.Equal(t, answer.StatusCode, said.Status)
			require.NotEmpty(t, said.Message)
		}
		require.NotContains(t, string(text), "panic")

		var locks []struct {
			ID      string    `json:"id"`
			Created time.Time `json:"created_at"`
			Updated time.Time `json:"updated_at"`
		}
		require.NoError(t, json.NewDecoder(ask("GET", "/v1/locks/", "", "").Body).Decode(&locks))
		require.LessOrEqual(t, len(locks), 2)
		for _, l := range locks {
			require.False(t, l.Updated.Before(l.Created))
		}
	})
}

package httpapi_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// Releases by another than the holder are logged, with who, from where and why.
func TestReleasesByOthersAreLogged(t *testing.T) {
	const mark = "k3v5x2m4q7ab"
	for name, row := range map[string]struct {
		creator string
		from    string // the holder created it from 192.0.2.1
		header  map[string]string
		logs    string
	}{
		"the holder, by its mark": {"ada #" + mark, "192.0.2.1",
			map[string]string{wire.HeaderMark: mark}, ""},
		"the holder, from a new address": {"ada #" + mark, "192.0.2.9",
			map[string]string{wire.HeaderMark: mark}, ""},
		"without the mark": {"ada #" + mark, "192.0.2.1", nil,
			`lock=arm id=ID holder="ada #` + mark + `" holder_ip=192.0.2.1 ip=192.0.2.1 ` +
				`user_agent=curl/8 reason=""`},
		"with another mark": {"ada #" + mark, "192.0.2.1",
			map[string]string{wire.HeaderMark: "aaaaaaaaaaaa"}, `ip=192.0.2.1 user_agent=curl/8`},
		"a plain client itself":       {"python", "192.0.2.1", nil, ""},
		"a plain client without name": {"", "192.0.2.1", nil, ""},
		"a plain lock, from elsewhere": {"python", "192.0.2.9", nil,
			`holder=python holder_ip=192.0.2.1 ip=192.0.2.9`},
		"a person": {"ada #" + mark, "192.0.2.9",
			map[string]string{wire.HeaderReason: "bob%40x%20(it%20smokes%0A)"},
			`ip=192.0.2.9 user_agent=curl/8 reason="bob@x (it smokes )"`},
		"a person, at the holder's address": {"python", "192.0.2.1",
			map[string]string{wire.HeaderReason: "why not"}, `reason="why not"`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := server.New(memstore.New(), server.WithAPIKeys("k"),
				server.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			defer s.Shutdown(t.Context())
			ask := func(method, path, body, from string, header map[string]string) string {
				r := httptest.NewRequest(method, path, strings.NewReader(body))
				r.RemoteAddr = from + ":1"
				r.Header.Set("X-API-KEY", "k")
				r.Header.Set("User-Agent", "curl/8")
				for name, value := range header {
					r.Header.Set(name, value)
				}
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				require.Less(t, w.Code, 300, w.Body)
				return w.Body.String()
			}
			body := `{"lock_name":"arm","creator":"` + row.creator + `"}`
			if row.creator == "" {
				body = `{"lock_name":"arm","creator":null}`
			}
			lock, err := wire.DecodeLock(
				[]byte(ask(http.MethodPost, "/v1/locks/", body, "192.0.2.1", nil)), new(wire.Lock))
			require.NoError(t, err)
			ask(http.MethodDelete, "/v1/locks/"+lock.ID, "", row.from, row.header)
			if row.logs == "" {
				require.Empty(t, log.String())
				return
			}
			require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
			require.Contains(t, log.String(), "level=INFO")
			require.Contains(t, log.String(), strings.Replace(row.logs, "ID", lock.ID, 1))
		})
	}
}

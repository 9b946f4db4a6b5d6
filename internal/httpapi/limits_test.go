package httpapi

import (
	"crypto/sha256"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/server/access"
)

// WebSockets are limited, all together and for the keys of one name that are not an admin's.
func TestSockets(t *testing.T) {
	for name, c := range map[string]struct {
		key    string
		all, n int // that are open already, and of these with the key's name
		status int // 0: there may be one more
		says   string
	}{
		"none":               {"ada", 0, 0, 0, ""},
		"the last of a name": {"ada", 9000, maxSocketsNamed - 1, 0, ""},
		"too many of a name": {"ada", 9000, maxSocketsNamed, 429, "5000 WebSockets"},
		"many of an admin's": {"root", 9000, maxSocketsNamed, 0, ""},
		"the last":           {"root", maxSockets - 1, 9000, 0, ""},
		"too many":           {"ada", maxSockets, 0, 503, "10000 WebSockets"},
		"too many, an admin": {"root", maxSockets, 9000, 503, "10000 WebSockets"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &api{guard: guard.New([]access.Key{
				{Name: "ada", Role: access.Viewer, Hash: sha256.Sum256([]byte("ada"))},
				{Name: "root", Role: access.Admin, Hash: sha256.Sum256([]byte("root"))},
			}, guard.Limits{}, slog.New(slog.DiscardHandler), nil)}
			client, err := a.guard.Admit(c.key, guard.Origin{})
			require.NoError(t, err)
			a.sockets.add(c.key, c.n)
			a.sockets.add("others", c.all-c.n)
			w := httptest.NewRecorder()
			u, ok := a.upgrade(w, client)
			require.Equal(t, c.status == 0, ok)
			if ok {
				u.end()
			} else {
				require.Equal(t, c.status, w.Code)
				require.Equal(t, "1", w.Header().Get("Retry-After"))
				require.Contains(t, w.Body.String(), c.says)
			}
			all, n := a.sockets.add(c.key, 0)
			require.Equal(t, c.all, all)
			require.Equal(t, c.n, n)
		})
	}
}

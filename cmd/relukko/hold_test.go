//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

func TestHold(t *testing.T) {
	t.Parallel()
	for name, backend := range map[string]func(*relukkotest.Server){
		"ours": func(*relukkotest.Server) {}, "original": original,
	} {
		t.Run(name, func(t *testing.T) {
			s := relukkotest.NewServer(t)
			backend(s)
			out := succeeds(t, s, "hold", "bench", "--for", "0", "--reason", "broken (ask Ada)")
			lock := lockOf(t, s, "bench")
			require.Equal(t, "bench is held until released ("+lock.ID+")\n", out)
			require.Equal(t, 9999, lock.ExpiresAt.Year())
			require.Contains(t, *lock.Creator, " (broken (ask Ada)) #")
			before := time.Now()
			require.Contains(t,
				succeeds(t, s, "hold", "b", "--for", "2h", "--reason", "r"), "b is held until 20")
			expires := lockOf(t, s, "b").ExpiresAt
			require.WithinRange(t, expires, before.Add(2*time.Hour-time.Second),
				time.Now().Add(2*time.Hour+time.Second))
			var made api.Lock
			require.NoError(t, json.Unmarshal([]byte(
				succeeds(t, s, "hold", "c", "--for", "0", "--reason", "r", "--json")), &made))
			require.Equal(t, lockOf(t, s, "c").ID, made.ID)

			rows := strings.Split(succeeds(t, s, "ls"), "\n")
			require.Regexp(t, `WAITERS  ID +REASON$`, rows[0])
			require.Regexp(t, `^b  .*  in 1h59m  .*  r$`, rows[1])
			require.Regexp(t,
				`^bench  \S+@\S+ .*  until released  -  .*  broken \(ask Ada\)$`, rows[2])
			require.Regexp(t, `expires +until released\n`, succeeds(t, s, "get", "bench"))

			status, _, stderr := run(t, of(s), "hold", "bench", "--for", "0", "--reason", "x",
				"--no-wait")
			require.Equal(t, 75, status)
			if name == "ours" {
				require.Contains(t, stderr, "(broken (ask Ada))")
			}
			require.Equal(t, lock, lockOf(t, s, "bench"))

			succeeds(t, s, "set", "bench", "--creator", "Ada (still broken)")
			require.Regexp(t, `until released .*  still broken\n`, succeeds(t, s, "ls"))
			succeeds(t, s, "rm", "bench")
			succeeds(t, s, "release", made.ID)
			require.Len(t, s.Locks(), 1)
		})
	}
}

// TestTheServersMaxHold: what acquires a lock says that it got it for less, and a command is ended.
func TestTheServersMaxHold(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t, relukkotest.Backend(server.WithMaxHold(4*time.Second),
		server.WithKeys(access.Key{Name: "ada", Role: access.User,
			Hash: sha256.Sum256([]byte("user"))})))
	user := append(of(s), "RELUKKO_API_KEY=user")
	for name, args := range map[string][]string{
		"a": {"acquire", "a", "--for", "1h"},
		"b": {"hold", "b", "--for", "0", "--reason", "r"},
		"c": {"hold", "c", "--for", "1h", "--reason", "r"},
	} {
		status, _, stderr := run(t, user, args...)
		require.Zero(t, status, stderr)
		require.Regexp(t, `^relukko: lock "`+name+`" is held for [\d.]+m?s only: `+
			`the backend bounds how long \(serve --max-hold\)\n$`, stderr)
		lock := lockOf(t, s, name)
		require.Equal(t, 4*time.Second, lock.ExpiresAt.Sub(lock.CreatedAt))
	}
	status, _, stderr := run(t, user, "run", "arm", "--", "sleep", "100")
	require.Equal(t, 76, status)
	require.Equal(t, "relukko: lock \"arm\" was lost: the backend does not let it be held for "+
		"longer (serve --max-hold). The command was stopped\n", stderr)
	status, _, stderr = run(t, of(s), "run", "arm", "--", "sleep", "4.5")
	require.Zero(t, status, stderr)
}

package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestExitStatusAndError(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	_, err := s.Client().Create(t.Context(), "held", "Ada")
	require.NoError(t, err)
	const id = "950daa20-a814-451e-9407-ec496cf9c136"
	wrongKey := []string{envKey + "=stale"}

	for name, row := range map[string]struct {
		env    []string
		args   string
		status int
		says   string // on stderr
	}{
		"ls: nobody there": {env: []string{envURL + "=http://127.0.0.1:1"},
			args: "ls --timeout 0.5", status: 69,
			says: "no Relukko backend at http://127.0.0.1:1: connection refused. " +
				"Start one with `relukko serve`, or set RELUKKO_BASE_URL"},
		"ls: the wrong key": {env: wrongKey, args: "ls", status: 69,
			says: " does not let this API key list locks " +
				"(403 Forbidden: wrong or missing X-API-KEY). Set RELUKKO_API_KEY to a key"},
		"watch: the wrong key": {env: wrongKey, args: "watch", status: 69, says: "RELUKKO_API_KEY"},
		"ls: not a backend": {env: []string{envURL + "=" + s.URL + "/elsewhere"},
			args: "ls", status: 69, says: "is not a Relukko backend (404 Not Found"},
		"no such host": {args: "--url http://nowhere.invalid ls --timeout 1s", status: 69,
			says: "no Relukko backend at http://nowhere.invalid"},
		"get: no such lock": {args: "get nothing", status: 1, says: `no lock "nothing"`},
		"release: gone":     {args: "release " + id, status: 76, says: id + " was lost"},
		"release: no id": {args: "release ", status: 64,
			says: `"" is not the id of a lock, which relukko acquire prints`},
		"release: a name":   {args: "release held", status: 64, says: `"held" is not the id`},
		"no command":        {args: "run x", status: 64, says: "there is no command"},
		"nothing behind --": {args: "run x --", status: 64, says: "there is no command after --"},
		"no --": {args: "run x ls -l", status: 64, says: "'l' in -l. " +
			"Flags of the command come after --: relukko run NAME -- COMMAND"},
		"no name":   {args: "run -- true", status: 64, says: "there is no name of a lock"},
		"two names": {args: "run x y -- true", status: 64, says: "repeat --lock"},
		"half a second of lease": {args: "run --ttl 500ms x -- true", status: 64,
			says: "--ttl: give whole seconds"},
		"half a second of holding": {args: "acquire x --for 0.5", status: 64,
			says: "--for: give whole seconds"},
		"a negative wait": {args: "run --wait -1s x -- true", status: 64,
			says: "cannot be negative"},
		"an unknown flag": {args: "ls --colour", status: 64, says: "unknown flag: --colour"},
		"an unknown command": {args: "lock", status: 64,
			says: `unknown command "lock"`},
		"a superfluous argument": {args: "ls x", status: 64,
			says: "there is no argument \"x\": relukko ls\nSee 'relukko ls --help'."},
		"two locks to get": {args: "get x y", status: 64,
			says: `there is no argument "y": relukko get NAME|ID`},
		"no argument": {args: "acquire", status: 64,
			says: "an argument is missing: relukko acquire NAME\n"},
		"nothing to remove": {args: "rm", status: 64,
			says: "an argument is missing: relukko rm NAME|ID…\n"},
		"extend by nothing": {args: "extend held", status: 64, says: "[for add]"},
		"extend by 0":       {args: "extend held --add 0", status: 64, says: "use relukko rm"},
		"extend in two ways": {args: "extend held --for 1m --add 1m", status: 64,
			says: "[for add]"},
		"set nothing": {args: "set held", status: 64, says: "creator expires-at"},
		"set no time": {args: "set held --expires-at tomorrow", status: 64,
			says: `"tomorrow" is not a time like`},
		"no key": {env: []string{envKey + "="}, args: "ls", status: 64,
			says: "--api-key-file"},
		"no key file": {args: "--api-key-file /nowhere ls", status: 64, says: "/nowhere"},
		"no scheme": {args: "--url localhost:3000 ls", status: 64,
			says: `--url: "localhost:3000" has no scheme: write http://localhost:3000`},
		"no scheme, environment": {env: []string{envURL + "=127.0.0.1:3901"}, args: "ls",
			status: 64,
			says:   `RELUKKO_BASE_URL: "127.0.0.1:3901" has no scheme: write http://127.0`},
		"no URL": {args: "--url ftp://x ls", status: 64,
			says: `--url: base URL "ftp://x": it must begin with http://, https:// or unix://`},
		"a shell that is unknown": {args: "completion tcsh", status: 64, says: "tcsh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, stdout, stderr := run(t, append(row.env, of(s)...),
				strings.Split(row.args, " ")...)
			require.Equal(t, row.status, status, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, row.says)
			require.NotContains(t, stderr, s.APIKey)
			require.True(t, strings.HasPrefix(stderr, "relukko: "), stderr)
			require.NotContains(t, stderr, "relukko: relukko: ")
		})
	}
	t.Cleanup(func() { require.Len(t, s.Locks(), 1, "only the one that was held") })
}

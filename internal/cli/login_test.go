package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// account runs the program with a home directory of its own.
type account struct {
	t    testing.TB
	home string
	env  []string
}

func newAccount(t testing.TB) *account {
	home := t.TempDir()
	return &account{t, home, []string{"HOME=" + home}}
}

func (a *account) run(stdin string, args ...string) (status int, stdout, stderr string) {
	a.t.Helper()
	var out, errs bytes.Buffer
	status = Run(Invocation{Args: args, Env: a.env, Stdin: strings.NewReader(stdin),
		Stdout: &out, Stderr: &errs})
	return status, out.String(), errs.String()
}

// A key that the backend accepts is stored with its address, and used from then on.
func TestLogin(t *testing.T) {
	t.Parallel()
	s, a := relukkotest.NewServer(t), newAccount(t)
	file := filepath.Join(a.home, ".config", "relukko", "client.env")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte("# mine\nRELUKKO_API_KEY=old\nX=1\n"), 0o644))

	status, stdout, stderr := a.run(s.APIKey+"\nmore\n", "login", s.URL)
	require.Zero(t, status, stderr)
	require.Equal(t, s.URL+" accepts the key; stored in "+file+"\n", stdout)
	require.Empty(t, stderr)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "# mine\nX=1\nRELUKKO_BASE_URL="+s.URL+"\nRELUKKO_API_KEY="+s.APIKey+"\n",
		string(content))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	status, _, stderr = a.run("", "ls")
	require.Zero(t, status, stderr)

	a.env = append(a.env, envKey+"="+s.APIKey)
	status, _, stderr = a.run(s.APIKey, "login", s.URL)
	require.Zero(t, status, stderr)
	require.Contains(t, stderr, "RELUKKO_API_KEY is set, and wins over what was stored")
}

// What cannot be used is not stored.
func TestLoginRefuses(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	for name, row := range map[string]struct {
		env    []string
		stdin  string
		args   []string
		status int
		says   string
	}{
		"a wrong key":  {nil, "wrong key\n", []string{s.URL}, 69, "does not let this API key list"},
		"an empty key": {nil, "\n", []string{s.URL}, 64, "there is no key on stdin"},
		"no key":       {nil, "", []string{s.URL}, 64, "there is no key on stdin"},
		"two keys":     {nil, "wrong key,b\n", []string{s.URL}, 64, "no key has a comma in it"},
		"no URL":       {nil, s.APIKey, nil, 64, "an argument is missing"},
		"no scheme":    {nil, s.APIKey, []string{"localhost:1"}, 64, "has no scheme"},
		"another scheme": {nil, s.APIKey, []string{"ftp://x"}, 64,
			"it must begin with http://, https:// or unix://"},
		"--url": {nil, s.APIKey, []string{"--url", s.URL, s.URL}, 64, "relukko login URL"},
		"nobody there": {nil, s.APIKey, []string{"http://127.0.0.1:1", "--timeout", "0.3"}, 69,
			"no Relukko backend at http://127.0.0.1:1"},
		"trust mode": {[]string{envTrust + "=1"}, s.APIKey, []string{s.URL}, 64,
			"so the key cannot be checked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			a.env = append(a.env, row.env...)
			status, stdout, stderr := a.run(row.stdin, append([]string{"login"}, row.args...)...)
			require.Equal(t, row.status, status, stderr)
			require.Contains(t, stderr, row.says)
			require.NotContains(t, stderr, "wrong key")
			require.Empty(t, stdout)
			require.NoDirExists(t, filepath.Join(a.home, ".config"))
		})
	}
	a := &account{t: t}
	status, _, stderr := a.run(s.APIKey, "login", s.URL)
	require.Equal(t, 64, status)
	require.Contains(t, stderr, "HOME is not set")
}

func TestStatus(t *testing.T) {
	t.Parallel()
	s, plain := relukkotest.NewServer(t), relukkotest.NewServer(t)
	plain.RefuseWebSockets(true)
	for name, row := range map[string]struct {
		env     []string
		file    string
		status  int
		out     []string
		says    string
		without string
	}{
		"environment": {env: of(s), out: []string{`backend +` + s.URL, `  from +RELUKKO_BASE_URL`,
			`  state +up`, `  version +\S+`, `  store +memory`, `API key +accepted`,
			`  from +RELUKKO_API_KEY`, `  stream +up`, `  name +default`, `  role +admin`}},
		"no WebSockets": {env: of(plain), out: []string{`API key +accepted`,
			`  stream +none \(HTTP 404\): plain requests are used`, `  name +-`, `  role +-`}},
		"file": {file: "RELUKKO_BASE_URL='" + s.URL + "'\nRELUKKO_API_KEY=" + s.APIKey,
			out: []string{`  from +RELUKKO_BASE_URL in FILE`, `API key +accepted`,
				`  from +RELUKKO_API_KEY in FILE`}},
		"wrong key": {env: []string{envURL + "=" + s.URL}, file: "RELUKKO_API_KEY=wrong-key",
			status: 69, says: "does not let this API key list locks (403", without: "wrong-key",
			out: []string{`  state +up`, `  version +-`, `API key +refused`,
				`  from +RELUKKO_API_KEY in FILE`}},
		"no backend": {env: []string{envURL + "=http://127.0.0.1:1", envKey + "=k"}, status: 69,
			says: "connection refused",
			out: []string{`backend +http://127.0.0.1:1`, `  state +cannot be used`,
				`  store +-`, `  stream +not tried`, `API key +not checked`}},
		"no key": {env: []string{envURL + "=" + s.URL}, status: 64, says: "no API key",
			out: []string{`  state +up`, `API key +none`, `  from +-`}},
		"neither": {env: []string{envURL + "=http://127.0.0.1:1"}, status: 69,
			says: "connection refused", out: []string{`API key +none`}},
		"a secret in the URL": {env: []string{envURL + "=http://ada:hush@127.0.0.1:1",
			envKey + "=k"}, status: 69, out: []string{`backend +http://127.0.0.1:1`},
			without: "hush"},
		"a file that makes no sense": {file: "export RELUKKO_API_KEY=k", status: 64,
			says: "line 1: write RELUKKO_API_KEY=… without export"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			file := filepath.Join(a.home, "relukko", "client.env")
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
			require.NoError(t, os.WriteFile(file, []byte(row.file), 0o600))
			a.env = append(append(a.env, "XDG_CONFIG_HOME="+a.home), row.env...)
			status, stdout, stderr := a.run("", "status", "--timeout", "0.5")
			require.Equal(t, row.status, status, stderr)
			for _, line := range row.out {
				require.Regexp(t, `(?m)^`+strings.ReplaceAll(line, "FILE", file)+`$`, stdout)
			}
			require.Contains(t, stderr, row.says)
			if row.without != "" {
				require.NotContains(t, stdout+stderr, row.without)
			}
		})
	}
}

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// machine is a user's account on a machine where nothing is configured and nobody listens
// at the default address. That has a port of its own, so that tests can run at the same
// time.
type machine struct {
	t             testing.TB
	program, port string
	home          string
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	m := &machine{t: t, program: filepath.Join(t.TempDir(), "relukko"), port: port,
		home: t.TempDir()}
	out, err := exec.Command("go", "build", m.ldflags(), "-o", m.program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return m
}

// ldflags is the flag of go build that changes the default port.
func (m *machine) ldflags() string {
	return "-ldflags=-X=gitlab.com/relukko/relukko-go/internal/settings.defaultPort=" + m.port
}

// launch starts the machine's program.
func (m *machine) launch(env []string, args ...string) *process {
	m.t.Helper()
	return launch(m.t, append([]string{"HOME=" + m.home}, env...), args,
		func(c *exec.Cmd) { c.Path = m.program })
}

func (m *machine) run(env []string, args ...string) (status int, stdout, stderr string) {
	m.t.Helper()
	return m.launch(env, args...).end()
}

// serve starts a server and waits until it is ready.
func (m *machine) serve(args ...string) *process {
	m.t.Helper()
	p := m.launch(nil, append([]string{"serve"}, args...)...)
	p.stderr.await(m.t, "API key")
	return p
}

func (m *machine) state(name string) string {
	return filepath.Join(m.home, ".local", "state", "relukko", name)
}

// Two terminals, and nothing is set in either of them. The server is killed and started
// again while the command runs: the command lives.
func TestTwoTerminals(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := m.serve()
	require.Contains(t, s.stderr.String(), m.state("locks.db.key")+"; clients of this user find it")
	command := m.launch(nil, "run", "--ttl", "3s", "arm", "--", "sh", "-c",
		`echo started; while [ ! -e "$HOME/done" ]; do sleep 0.1; done; echo finished`)
	require.Equal(t, "started", command.line())

	s.signal(syscall.SIGKILL)
	require.Equal(t, 137, s.awaitEnd())
	s = m.serve()
	restarted := time.Now()
	eventually(t, "a renewal", func() bool {
		var lock api.Lock
		_, text, _ := m.run(nil, "get", "--json", "arm")
		return json.Unmarshal([]byte(text), &lock) == nil && lock.UpdatedAt.After(restarted)
	})
	require.NoError(t, os.WriteFile(filepath.Join(m.home, "done"), nil, 0o600))
	require.Equal(t, "finished", command.line())
	require.Zero(t, command.awaitEnd(), command.stderr)
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd())
}

// Each store has its own key; clients find that of the server that they reach.
func TestServersWithKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	other := "bolt:" + filepath.Join(t.TempDir(), "other.db")
	keys := make(map[string]string)
	for _, store := range []string{"", other, "memory", other, "memory", ""} {
		args := []string{}
		if store != "" {
			args = []string{"--store", store}
		}
		s := m.serve(args...)
		elsewhere := m.serve("--addr", "127.0.0.1:0", "--store", boltAt(t))
		status, _, stderr := m.run(nil, "run", "arm", "--", "true")
		require.Zero(t, status, stderr)
		key, err := os.ReadFile(m.state("local.key"))
		require.NoError(t, err)
		if keys[store] == "" {
			keys[store] = string(key)
		}
		require.Equal(t, keys[store], string(key), store)
		require.NotContains(t, s.stderr.String(), strings.TrimSpace(string(key)))
		for _, p := range []*process{s, elsewhere} {
			p.signal(syscall.SIGTERM)
			require.Zero(t, p.awaitEnd(), p.stderr)
		}
	}
	require.Len(t, keys, 3)
	for path, want := range map[string]string{m.state("locks.db.key"): keys[""],
		m.state("server.key"):                       keys["memory"],
		strings.TrimPrefix(other, "bolt:") + ".key": keys[other]} {
		key, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(key))
	}
}

// A key is used only where no other user can have changed it, or have read it.
func TestKeyFilesOfOthers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	s := m.serve()
	for _, file := range []string{"local.key", "locks.db.key"} {
		require.NoError(t, os.Chmod(m.state(file), 0o644))
	}
	status, _, stderr := m.run(nil, "ls")
	require.Equal(t, 64, status)
	require.Contains(t, stderr, m.state("local.key")+": other users may read or write it")
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd())

	status, _, stderr = m.run(nil, "serve")
	require.Equal(t, 1, status, stderr)
	require.Contains(t, stderr, m.state("locks.db.key")+": other users may read or write it")
	require.Contains(t, stderr, "delete the file")
	require.NoError(t, os.Remove(m.state("locks.db.key")))
	s = m.serve()
	status, _, stderr = m.run(nil, "ls")
	require.Zero(t, status, stderr)

	// It goes to no other address.
	u := &url.URL{Scheme: "http", Host: "localhost.:" + m.port}
	status, _, stderr = m.run([]string{envURL + "=" + u.String()}, "ls")
	require.Equal(t, 64, status)
	require.Contains(t, stderr, "no API key")
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd())
}

// A machine without a home directory, or with a file system that is read only.
func TestServeWithoutHome(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, home := range []string{"HOME=", "HOME=/dev/null"} {
		s := m.launch([]string{home}, "serve", "--store", "memory")
		said := s.stderr.await(t, "export "+envKey+"=")
		_, key, _ := strings.Cut(said, "export "+envKey+"=")
		status, _, stderr := m.run([]string{home, envKey + "=" + strings.TrimSpace(key)}, "ls")
		require.Zero(t, status, stderr)
		status, _, stderr = m.run([]string{home}, "ls")
		require.Equal(t, 64, status)
		require.Contains(t, stderr, "no API key")
		s.signal(syscall.SIGTERM)
		require.Zero(t, s.awaitEnd())
	}
}

// The key is read from a terminal without showing it.
func TestLoginAtATerminal(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := open(t, s, "bash", "-c", `unset RELUKKO_API_KEY; export HOME=`+t.TempDir()+`
		"$relukko" login "$RELUKKO_BASE_URL"; echo status=$?
		"$relukko" ls; echo status=$?; "$relukko" login "$RELUKKO_BASE_URL"; echo not reached`)
	typesSecret := func(key string) {
		c.await("API key for " + s.URL + ": ")
		eventually(t, "no echo", func() bool {
			stty := exec.Command("stty", "-a")
			stty.Stdin = c.keys
			out, err := stty.Output()
			return err == nil && strings.Contains(string(out), " -echo ")
		})
		c.types(key)
	}
	typesSecret(s.APIKey + "\n")
	c.await("accepts the key; stored in ")
	c.await("status=0")
	c.await("status=0")
	typesSecret("secret" + ctrlC)
	c.end()
	require.NotContains(t, c.screen.String(), "secret")
	require.NotContains(t, c.screen.String(), "not reached")
}

// Where other machines can reach the server, a short key is warned of.
func TestShortKeys(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 16)
	for name, row := range map[string]struct {
		addr, key string
		warns     bool
	}{
		"short":             {"0.0.0.0:0", long[1:], true},
		"one of two":        {"0.0.0.0:0", long + ",k", true},
		"long enough":       {"0.0.0.0:0", long, false},
		"on this machine":   {"127.0.0.1:0", "k", false},
		"short, in a file":  {"0.0.0.0:0", "@k", true},
		"long, in two ways": {"[::]:0", "@" + long + "\n" + long, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := []string{envKey + "=" + row.key}
			if key, ok := strings.CutPrefix(row.key, "@"); ok {
				env = []string{"RELUKKO_API_KEY_FILE=" + writeFile(t, "keys", key)}
			}
			p := launch(t, env, []string{"serve", "--store", "memory", "--addr", row.addr})
			p.stderr.await(t, "listening")
			p.signal(syscall.SIGTERM)
			require.Zero(t, p.awaitEnd())
			warnings := strings.Count(p.stderr.String(), "fewer than 16 characters")
			require.Equal(t, row.warns, warnings == 1, p.stderr)
			require.Equal(t, row.warns, strings.Contains(p.stderr.String(), "relukko key new"))
		})
	}
}

// A key file that the environment names is read again when it changes.
func TestKeyFileOfTheEnvironment(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "keys", "old\n")
	env := []string{"RELUKKO_API_KEY_FILE=" + file}
	p := launch(t, env, []string{"serve", "--store", "memory", "--addr", "127.0.0.1:0"})
	at := firstLine.FindStringSubmatch(p.stderr.await(t, "\n"))[1]
	status, _, stderr := run(t, append(env, envURL+"="+at), "ls")
	require.Zero(t, status, stderr)
	require.NoError(t, os.WriteFile(file, []byte("new\n"), 0o600))
	p.signal(syscall.SIGHUP)
	p.stderr.await(t, "reloaded the API keys")
	status, _, stderr = run(t, append(env, envURL+"="+at), "ls")
	require.Zero(t, status, stderr)
	status, _, _ = run(t, []string{envURL + "=" + at, envKey + "=old"}, "ls")
	require.Equal(t, 69, status)
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.awaitEnd())
}

// The log of the server says who deleted a lock. Its holders release theirs in silence.
func TestDeletionsAreLogged(t *testing.T) {
	t.Parallel()
	s := serveWith(t, nil, "--store", "memory")
	status, _, stderr := run(t, s.env(), "run", "arm", "--", "true")
	require.Zero(t, status, stderr)
	status, id, stderr := run(t, s.env(), "acquire", "arm", "--creator", "job 7")
	require.Zero(t, status, stderr)
	status, _, stderr = run(t, s.env(), "release", strings.TrimSpace(id))
	require.Zero(t, status, stderr)
	require.NotContains(t, s.stderr.String(), "level=INFO")

	status, id, stderr = run(t, s.env(), "acquire", "arm", "--creator", "job 8")
	require.Zero(t, status, stderr)
	status, _, stderr = run(t, s.env(), "rm", "arm", "--reason", "it smokes")
	require.Zero(t, status, stderr)
	said := s.stderr.await(t, "it smokes")
	require.Regexp(t, `level=INFO msg="a lock was released by another than its holder" `+
		`action=delete key=default role=admin owner=default lock=arm id=`+
		strings.TrimSpace(id)+` holder="job 8 #\w+" holder_ip=127.0.0.1 `+
		`ip=127.0.0.1 user_agent=relukko-go reason="\S+@\S+ \(it smokes\)"`, said)
	s.stop()
}

func TestStatusInTrustMode(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := run(t, []string{"RELUKKO_TRUST_ME_IT_IS_LOCKED=1"}, "status")
	require.Zero(t, status)
	require.Regexp(t, `(?m)^  state +not asked: RELUKKO_TRUST_ME_IT_IS_LOCKED is set$`, stdout)
	require.Contains(t, stderr, "NOTHING IS LOCKED")
}

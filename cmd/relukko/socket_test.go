//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
)

// socketIn returns the path of a socket in a new folder with a short name.
func socketIn(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "relukko.sock")
}

// Server and clients use a Unix socket, and nothing but its address is set. The server is killed
// and started again on the same socket while a command runs and another one waits: both live.
func TestOnASocket(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	path := socketIn(t)
	url := "unix://" + path
	const proxy = "http://127.0.0.1:1"
	env := []string{envURL + "=" + url, "HTTP_PROXY=" + proxy, "http_proxy=" + proxy}
	s := m.serve("--addr", "unix:"+path)
	require.Contains(t, s.stderr.String(), "relukko: listening on "+url+", store bolt:")
	require.Contains(t, s.stderr.String(), m.state("locks.db.key")+"; clients of this user find it")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o660, info.Mode())

	held := m.launch(env, "run", "--ttl", "3s", "arm", "--", "sh", "-c",
		`echo started; while [ ! -e "$HOME/done" ]; do sleep 0.1; done; echo finished`)
	require.Equal(t, "started", held.line())
	waits := m.launch(env, "run", "--ttl", "3s", "arm", "--", "echo", "next")
	waits.stderr.await(t, "(unix)")

	s.signal(syscall.SIGKILL)
	require.Equal(t, 137, s.awaitEnd())
	require.FileExists(t, path)
	status, _, stderr := m.run(env, "ls", "--timeout", "1s")
	require.Equal(t, 69, status)
	require.Contains(t, stderr, "cannot connect to "+url+
		": no server listens on the socket. Start one with `relukko serve --addr "+url+"`")
	s = m.serve("--addr", url)
	restarted := time.Now()
	eventually(t, "a renewal", func() bool {
		var lock api.Lock
		_, text, _ := m.run(env, "get", "--json", "arm")
		return json.Unmarshal([]byte(text), &lock) == nil && lock.UpdatedAt.After(restarted)
	})
	require.NoError(t, os.WriteFile(filepath.Join(m.home, "done"), nil, 0o600))
	require.Equal(t, "finished", held.line())
	require.Zero(t, held.awaitEnd(), held.stderr)
	require.Equal(t, "next", waits.line())
	require.Zero(t, waits.awaitEnd(), waits.stderr)

	for _, args := range [][]string{{"status"}, {"health"}, {"health", "unix:" + path}} {
		status, stdout, stderr := m.run(env, args...)
		require.Zero(t, status, stderr)
		require.Contains(t, stdout, url)
	}
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd())
	require.NoFileExists(t, path)
	status, _, stderr = m.run(env, "status", "--timeout", "1s")
	require.Equal(t, 69, status)
	require.Contains(t, stderr, "cannot connect to "+url+": there is no such socket")
}

// Each server on a socket has a key of its own, and clients find the right one.
func TestServersOnSeveralSockets(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.serve("--store", "memory")
	for range 2 {
		path := socketIn(t)
		s := m.serve("--addr", "unix:"+path, "--socket-mode", "600", "--store", boltAt(t))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.ModeSocket|0o600, info.Mode())
		for _, url := range []string{"unix://" + path, "unix:" + path} {
			status, _, stderr := m.run([]string{envURL + "=" + url}, "ls")
			require.Zero(t, status, stderr)
		}
		defer s.signal(syscall.SIGTERM)
	}
	status, _, stderr := m.run(nil, "ls")
	require.Zero(t, status, stderr)
}

func TestServeRefusesTheSocket(t *testing.T) {
	t.Parallel()
	path := socketIn(t)
	key := envKey + "=k"
	serveWith(t, []string{key}, "--addr", "unix:"+path, "--store", "memory")
	file := writeFile(t, "file", "kept")
	cert, private := certificate(t)
	for name, row := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"a live server": {[]string{"unix:" + path}, 1,
			"cannot listen: another server listens on " + path},
		"a file":       {[]string{"unix:" + file}, 1, file + " exists and is no socket"},
		"no directory": {[]string{"unix:/nowhere/a.sock"}, 1, "there is no directory /nowhere"},
		"half a path":  {[]string{"unix:a.sock"}, 64, "the whole path"},
		"a bare path":  {[]string{"/run/a.sock"}, 64, "write unix:/run/a.sock"},
		"no mode": {[]string{"unix:" + path, "--socket-mode", "rw"}, 64,
			"is not a mode like 0660"},
		"too many bits": {[]string{"unix:" + path, "--socket-mode", "4660"}, 64, "is not a mode"},
		"TLS": {[]string{"unix:" + path, "--tls-cert", cert, "--tls-key", private}, 64,
			"there is no TLS on a Unix socket"},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, stderr := run(t, []string{key}, append([]string{"serve", "--store", "memory",
				"--addr"}, row.args...)...)
			require.Equal(t, row.status, status, stderr)
			require.Contains(t, stderr, row.says)
		})
	}
	status, _, stderr := run(t, []string{key, envURL + "=unix://" + path}, "ls")
	require.Zero(t, status, stderr)
	require.FileExists(t, file)
	status, _, stderr = run(t, []string{key, envURL + "=" + path}, "ls")
	require.Equal(t, 64, status)
	require.Contains(t, stderr, "for a Unix socket write unix://"+path)
}

// What login stores is used by the next command.
func TestLoginOnASocket(t *testing.T) {
	t.Parallel()
	path := socketIn(t)
	serveWith(t, []string{envKey + "=k"}, "--addr", "unix:"+path, "--store", "memory")
	home := "HOME=" + t.TempDir()
	p := launch(t, []string{home}, []string{"login", "unix://" + path}, stdin(strings.NewReader("k\n")))
	status, _, stderr := p.end()
	require.Zero(t, status, stderr)
	status, stdout, stderr := run(t, []string{home}, "status")
	require.Zero(t, status, stderr)
	require.Regexp(t, `(?m)^backend +unix://`+path+`$`, stdout)
	require.Regexp(t, `(?m)^  store +\S+$`, stdout)
}

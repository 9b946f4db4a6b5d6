//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

// serving is a running relukko serve.
type serving struct {
	*process
	url, key, store string
	keyFile         string // of the key that it made
}

var firstLine = regexp.MustCompile(`\Arelukko: listening on (https?://\S+|unix:///\S+), store (\S+)\n`)

var keyFileLine = regexp.MustCompile(`the server's own is in the file, for clients:\n` +
	`export RELUKKO_API_KEY_FILE=(/\S+\.key)\n`)

// serveWith starts a relukko serve on any free port unless args say otherwise.
func serveWith(t testing.TB, env []string, args ...string) *serving {
	t.Helper()
	return listening(t, env, launch(t, env, append([]string{"serve", "--addr", "127.0.0.1:0"},
		args...)))
}

// listening waits until relukko serve listens.
func listening(t testing.TB, env []string, p *process) *serving {
	t.Helper()
	said := p.stderr.await(t, "\n")
	at := firstLine.FindStringSubmatch(said)
	require.NotNil(t, at, "the first line is %q", said)
	s := &serving{process: p, url: at[1], store: at[2]}
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, envKey+"="); ok {
			s.key, _, _ = strings.Cut(value, ",")
		}
	}
	if s.key == "" {
		s.keyFile = keyFileLine.FindStringSubmatch(p.stderr.await(t, ".key\n"))[1]
		key, err := os.ReadFile(s.keyFile)
		require.NoError(t, err)
		s.key = strings.TrimSpace(string(key))
	}
	return s
}

func (s *serving) env() []string { return []string{envURL + "=" + s.url, envKey + "=" + s.key} }

func (s *serving) client() *api.Client {
	s.t.Helper()
	c, err := api.New(s.url, s.key)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { c.Shutdown(s.t.Context()) })
	return c
}

// stop ends it by SIGTERM.
func (s *serving) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	began := time.Now()
	require.Zero(s.t, s.awaitEnd(), s.stderr)
	require.Less(s.t, time.Since(began), 5*time.Second)
}

func boltAt(t testing.TB) string { return "bolt:" + filepath.Join(t.TempDir(), "locks.db") }

// One command and curl are all that it takes.
func TestServeOutOfTheBox(t *testing.T) {
	t.Parallel()
	s := serveWith(t, nil)
	require.True(t, strings.HasSuffix(s.store, "/.local/state/relukko/locks.db"), s.store)
	require.Regexp(t, `^[0-9a-f]{64}$`, s.key)
	require.Equal(t, "bolt:"+s.keyFile, s.store+".key")
	require.Contains(t, s.stderr.String(), "export RELUKKO_API_KEY_FILE="+s.keyFile+"\n")
	require.NotContains(t, s.stderr.String(), s.key)

	req, err := http.NewRequest("POST", s.url+"/v1/locks/",
		strings.NewReader(`{"lock_name":"arm","creator":"curl"}`))
	require.NoError(t, err)
	req.Header.Set("X-API-KEY", s.key)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, http.StatusCreated, resp.StatusCode)

	status, stdout, stderr := run(t, s.env(), "ls")
	require.Zero(t, status, stderr)
	require.Regexp(t, `(?m)^arm +curl +127.0.0.1`, stdout)
	s.stop()
	require.NotContains(t, s.stderr.String(), "level=WARN")
}

// As a service of systemd the server says when it is ready and when it ends, serves the watchdog,
// and keeps its files in the directory of the service.
func TestServeAsAService(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "relukko") // the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { manager.Close() })
	require.NoError(t, manager.SetReadDeadline(time.Now().Add(patience)))
	message := func() string {
		b := make([]byte, 4096)
		n, err := manager.Read(b)
		require.NoError(t, err)
		return string(b[:n])
	}

	state := filepath.Join(dir, "state")
	s := serveWith(t, []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=100000",
		"STATE_DIRECTORY=" + state, "HOME=" + dir})
	require.Equal(t, "bolt:"+state+"/locks.db", s.store)
	require.Equal(t, state+"/locks.db.key", s.keyFile)
	require.Equal(t, "READY=1\nSTATUS=listening on "+s.url+", store "+s.store, message())
	require.NoError(t, s.client().Health(t.Context()))
	for range 3 {
		require.True(t, strings.HasPrefix(message(), "WATCHDOG=1\n"))
	}
	s.signal(syscall.SIGTERM)
	for said := ""; said != "STOPPING=1\nSTATUS=ending"; {
		said = message()
	}
	require.Zero(t, s.awaitEnd(), s.stderr)
}

func TestServeRefusesToStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	busy := serveWith(t, nil, "--store", boltAt(t))
	key := envKey + "=k"

	for name, row := range map[string]struct {
		env    []string
		args   []string
		status int
		says   string
	}{
		"no key, for all to reach": {args: []string{"--addr", "0.0.0.0:0"}, status: 64,
			says: "so set RELUKKO_API_KEY"},
		"the same over IPv6": {args: []string{"--addr", "[::]:0"}, status: 64,
			says: "so set RELUKKO_API_KEY"},
		"the same by environment": {env: []string{"RELUKKO_BIND_ADDR=0.0.0.0:0"},
			args: []string{"--addr", ""}, status: 64, says: "so set RELUKKO_API_KEY"},
		"an empty list of keys": {env: []string{envKey + "=,"}, status: 64,
			says: "RELUKKO_API_KEY is set, but there is no key in it"},
		"no key file": {args: []string{"--api-key-file", "/nowhere"}, status: 64,
			says: "/nowhere"},
		"a port alone": {args: []string{"--addr", "3907"}, status: 64,
			says: "write 127.0.0.1:3907"},
		"the port is taken": {args: []string{"--addr", taken.Addr().String()}, status: 1,
			says: "address already in use"},
		"no address": {args: []string{"--addr", "nowhere.invalid:0"}, status: 1,
			says: "nowhere.invalid"},
		"the file is in use": {args: []string{"--store", busy.store}, status: 1,
			says: "another process has it open"},
		"no store of that kind": {args: []string{"--store", "sqlite:x"}, status: 64,
			says: "none of bolt:PATH, memory, postgres://…"},
		"no database": {args: []string{"--wait-for-store", "0",
			"--store", "postgres://ada:hush@127.0.0.1:1/x"}, status: 1,
			says: "store postgres://127.0.0.1:1/x: " +
				"dial tcp 127.0.0.1:1: connect: connection refused\n"},
		"no database by environment": {
			env:  []string{"DATABASE_URL=postgres://ada:hush@127.0.0.1:1/x"},
			args: []string{"--wait-for-store", "300ms"}, status: 1, says: "127.0.0.1"},
		"not a database": {env: []string{"DATABASE_URL=mysql://ada:hush@127.0.0.1:1/x"},
			status: 64, says: "DATABASE_URL"},
		"a certificate, no key": {args: []string{"--tls-cert", "x"}, status: 64, says: "tls-key"},
		"no certificate": {args: []string{"--tls-cert", "/nowhere", "--tls-key", "/nowhere"},
			status: 64, says: "/nowhere"},
		"no log format": {args: []string{"--log-format", "xml"}, status: 64,
			says: `--log-format: "xml" is neither text nor json`},
		"no log level": {args: []string{"--log-level", "loud"}, status: 64,
			says: `--log-level: "loud" is none of debug, info, warn, error`},
		"a client's flag": {args: []string{"--url", "http://localhost"}, status: 64,
			says: "--addr"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := row.env
			if row.status == 1 {
				env = append([]string{key}, env...)
			}
			status, stdout, stderr := run(t, env,
				append([]string{"serve", "--addr", "127.0.0.1:0"}, row.args...)...)
			require.Equal(t, row.status, status, stderr)
			require.Contains(t, stderr, row.says)
			require.NotContains(t, stderr, "hush")
			require.Empty(t, stdout)
		})
	}
}

func TestServeElsewhere(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{
		"all addresses": "0.0.0.0:0", "all, IPv6": "[::]:0",
		"IPv6 loopback": "[::1]:0", "by name": "localhost:0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, []string{envKey + "=k"}, "--store", "memory", "--addr", addr)
			_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
			require.NoError(t, err)
			host, _, err := net.SplitHostPort(addr)
			require.NoError(t, err)
			if host == "0.0.0.0" || host == "::" {
				host = "localhost"
			}
			status, _, stderr := run(t, nil, "health", "http://"+net.JoinHostPort(host, port))
			require.Zero(t, status, stderr)
			if name == "all addresses" {
				_, err := net.Dial("tcp6", "[::1]:"+port)
				require.Error(t, err, "0.0.0.0 is IPv4 only")
				require.Contains(t, s.url, "http://0.0.0.0:")
			}
			s.stop()
		})
	}
}

// Keys can be replaced one after the other: all of them are accepted.
// TestServeBehindAProxy: a lock has the address of its client.
func TestServeBehindAProxy(t *testing.T) {
	for want, args := range map[string][]string{
		"127.0.0.1":    nil,
		"198.51.100.1": {"--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "127.0.0.1"},
	} {
		s := serveWith(t, nil, append(args, "--store", "memory")...)
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/locks/",
			strings.NewReader(`{"lock_name":"arm","creator":null}`))
		require.NoError(t, err)
		r.Header.Set("X-API-KEY", s.key)
		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		var lock struct{ IP string }
		require.NoError(t, json.NewDecoder(answer.Body).Decode(&lock))
		answer.Body.Close()
		require.Equal(t, want, lock.IP)
	}
	p := launch(t, nil, []string{"serve", "--store", "memory", "--trusted-proxy", "10.0.0.0/x"})
	require.Contains(t, p.stderr.await(t, "\n"), "--trusted-proxy")
}

func TestServeWithSeveralKeys(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "keys", "of the file\nold,older\n")
	for name, row := range map[string]struct {
		env, args []string
		good, bad []string
	}{
		"environment": {env: []string{envKey + "=new, old"}, good: []string{"new", "old"},
			bad: []string{"new, old", "older", ""}},
		"file": {env: []string{envKey + "=new"}, args: []string{"--api-key-file", file},
			good: []string{"of the file", "old", "older"}, bad: []string{"new"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, row.env, append(row.args, "--store", "memory")...)
			for _, key := range row.good {
				c, err := api.New(s.url, key)
				require.NoError(t, err)
				_, err = c.List(t.Context())
				require.NoError(t, err)
				require.NoError(t, c.Shutdown(t.Context()))
			}
			for _, key := range row.bad {
				c, err := api.New(s.url, key)
				require.NoError(t, err)
				_, err = c.List(t.Context())
				require.ErrorIs(t, err, api.ErrRefused)
				require.NoError(t, c.Shutdown(t.Context()))
			}
			s.stop()
			require.Contains(t, s.stderr.String(), // at most one line a second
				`level=WARN msg="refused: wrong or missing X-API-KEY" ip=127.0.0.1`)
			for _, key := range append(row.good, row.bad...) {
				if len(key) > 3 {
					require.NotContains(t, s.stderr.String(), key)
				}
			}
		})
	}
}

// One environment file can be that of the server and of its clients.
func TestOneEnvironmentForServerAndClients(t *testing.T) {
	t.Parallel()
	keys := []string{envKey + "=new, old"}
	s := serveWith(t, keys, "--store", "memory")
	status, _, stderr := run(t, append(keys, envURL+"="+s.url), "run", "arm", "--", "true")
	require.Zero(t, status, stderr)
	s.stop()
}

func TestServeLogs(t *testing.T) {
	t.Parallel()
	s := launch(t, nil,
		[]string{"serve", "--addr", "127.0.0.1:0", "--store", "memory", "--log-format", "json",
			"--log-level", "debug"})
	type record struct {
		Level, Msg, URL, Store, Path string
		Status                       int
		KeyFile                      string `json:"RELUKKO_API_KEY_FILE"`
	}
	s.stderr.await(t, "RELUKKO_API_KEY_FILE")
	var records []record
	read := func() {
		records = nil
		for lines := bufio.NewScanner(strings.NewReader(s.stderr.String())); lines.Scan(); {
			var r record
			require.NoError(t, json.Unmarshal(lines.Bytes(), &r), lines.Text())
			records = append(records, r)
		}
	}
	read()
	require.Equal(t, "listening", records[0].Msg)
	require.Equal(t, "memory", records[0].Store)
	status, _, stderr := run(t,
		[]string{envURL + "=" + records[0].URL, "RELUKKO_API_KEY_FILE=" + records[1].KeyFile}, "ls")
	require.Zero(t, status, stderr)
	s.signal(syscall.SIGINT)
	require.Zero(t, s.awaitEnd())
	read()
	require.Contains(t, records,
		record{Level: "DEBUG", Msg: "request", Path: "/v1/locks/", Status: 200})
	require.Equal(t, "ended", records[len(records)-1].Msg)

	// The first lines are printed at any level.
	quiet := serveWith(t, nil, "--store", "memory", "--log-level", "error")
	quiet.stop()
	require.Equal(t, 4, strings.Count(quiet.stderr.String(), "\n"), quiet.stderr)
}

// The server waits for a database that starts later.
func TestServeWaitsForPostgreSQL(t *testing.T) {
	t.Parallel()
	database := pgtest.Cluster{}
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	url := database.Database(t)
	database.Kill(t)
	args := []string{"serve", "--addr", "127.0.0.1:0", "--store", url}
	s := launch(t, []string{envKey + "=k"}, args)
	const waits = `level=WARN msg="the store is not available, retrying"`
	s.stderr.await(t, waits)
	interrupted := launch(t, []string{envKey + "=k"}, args)
	interrupted.stderr.await(t, waits)
	interrupted.signal(syscall.SIGTERM)
	require.Zero(t, interrupted.awaitEnd(), interrupted.stderr)
	database.Start(t)
	said := s.stderr.await(t, "relukko: listening on")
	require.Equal(t, 1, strings.Count(said, "WARN"), said)
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd(), s.stderr)

	// It does not wait where that does not help.
	began := time.Now()
	status, _, stderr := run(t, []string{envKey + "=k"}, "serve", "--addr", "127.0.0.1:0",
		"--store", regexp.MustCompile(`/[a-z0-9_]+(\?|$)`).ReplaceAllString(url, "/nodb$1"))
	require.Equal(t, 1, status, stderr)
	require.Contains(t, stderr, `"nodb" does not exist`)
	require.Less(t, time.Since(began), 10*time.Second)
}

// The reader of the log may end, as a program that it is piped to. The server goes on.
func TestServeWhoseLogNobodyReads(t *testing.T) {
	t.Parallel()
	log, broken, err := os.Pipe()
	require.NoError(t, err)
	defer broken.Close()
	s := launch(t, []string{envKey + "=k"},
		[]string{"serve", "--addr", "127.0.0.1:0", "--store", "memory"},
		func(c *exec.Cmd) { c.Stderr = broken })
	said, err := bufio.NewReader(log).ReadString('\n')
	require.NoError(t, err)
	url := envURL + "=" + firstLine.FindStringSubmatch(said)[1]
	breakPipe(t, log, broken)
	status, _, _ := run(t, []string{url, envKey + "=wrong"}, "ls") // which is logged
	require.Equal(t, 69, status)
	status, _, stderr := run(t, []string{url, envKey + "=k"}, "run", "arm", "--", "true")
	require.Zero(t, status, stderr)
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd())
}

// What was acknowledged survives a restart and a kill.
func TestServeKeepsTheLocks(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := store(t)
			key := []string{envKey + "=k"}
			s := serveWith(t, key, "--store", store)
			first, err := s.client().Create(t.Context(), "first", "Ada")
			require.NoError(t, err)
			gone, err := s.client().Create(t.Context(), "gone", "Ada")
			require.NoError(t, err)
			_, err = s.client().Delete(t.Context(), gone.ID)
			require.NoError(t, err)
			s.stop()

			s = serveWith(t, key, "--store", store)
			second, err := s.client().Create(t.Context(), "second", "Ada")
			require.NoError(t, err)
			s.signal(syscall.SIGKILL)
			require.Equal(t, 137, s.awaitEnd())

			s = serveWith(t, key, "--store", store)
			locks, err := s.client().List(t.Context())
			require.NoError(t, err)
			require.Equal(t, []api.Lock{first, second}, locks)
			again, err := s.client().Create(t.Context(), "gone", "Ada")
			require.NoError(t, err)
			require.Greater(t, again.FencingToken, gone.FencingToken)
			s.stop()
		})
	}
}

// stores are the durable ones.
func stores(t testing.TB) map[string]func(testing.TB) string {
	return map[string]func(testing.TB) string{
		"bbolt":      boltAt,
		"PostgreSQL": postgres.Database,
	}
}

func TestServeSweeps(t *testing.T) {
	t.Parallel()
	s := serveWith(t, nil, "--store", "memory", "--grace", "0")
	lock, err := s.client().Create(t.Context(), "arm", "Ada")
	require.NoError(t, err)
	_, err = s.client().KeepAlive(t.Context(), lock.ID, time.Second)
	require.NoError(t, err)
	status, _, stderr := run(t, s.env(), "run", "--wait", "10s", "arm", "--", "true")
	require.Zero(t, status, stderr)
}

// Commands work on each store.
func TestRunOnEachStore(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// On PostgreSQL there are two servers; what is done by one is heard on the other.
			db := store(t)
			one := serveWith(t, nil, "--store", db)
			other := one
			if name == "PostgreSQL" {
				other = serveWith(t, []string{envKey + "=" + one.key}, "--store", db)
			}
			holder := launch(t, one.env(),
				append([]string{"run", "--ttl", "3s", "arm", "--"}, family("sleep 100")...))
			require.Equal(t, "ready", holder.line())
			waiter := launch(t, other.env(),
				[]string{"run", "arm", "--", "sh", "-c", "echo $RELUKKO_FENCING_TOKEN"})
			waiter.stderr.await(t, `waiting for lock "arm", 1st in the queue, held by`)
			watcher := launch(t, other.env(), []string{"watch"})
			watcher.stderr.await(t, "watching")
			for !strings.Contains(watcher.line(), "updated  arm") { // the first heartbeat
			}
			status, _, stderr := run(t, other.env(), "rm", "arm")
			require.Zero(t, status, stderr)
			require.Equal(t, 76, holder.awaitEnd(), holder.stderr)
			holder.awaitAllGone()
			require.Regexp(t, `^\d+$`, waiter.line())
			require.Zero(t, waiter.awaitEnd())
			locks, err := one.client().List(t.Context())
			require.NoError(t, err)
			require.Empty(t, locks)
			if other != one {
				other.stop()
			}
			one.stop()
		})
	}
}

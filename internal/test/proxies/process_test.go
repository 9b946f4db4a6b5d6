//go:build unix

package proxies

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	key = "a key for the tests"

	requireEnv = "RELUKKO_REQUIRE_PROXIES"
	patience   = 20 * time.Second // for what takes milliseconds unless the machine is busy
)

// find returns the path of a program, which is not in every user's PATH.
func find(t testing.TB, program, install string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path
		}
	}
	if os.Getenv(requireEnv) != "" {
		t.Fatalf("%s is set, but %s is not installed", requireEnv, program)
	}
	t.Skipf("NOT TESTED: %s is not installed (%s)", program, install)
	return ""
}

// process is a running program. It also ends if the test's process is killed.
type process struct {
	group  int // its id
	input  io.Closer
	ended  chan struct{}
	stderr output
}

const script = `"$@" </dev/null & pid=$!
	read -r line
	kill $pid
	wait $pid`

func start(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), env...)
	p := &process{ended: make(chan struct{})}
	cmd.Stderr = &p.stderr
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	p.input = input
	require.NoError(t, cmd.Start())
	p.group = cmd.Process.Pid
	go func() {
		defer close(p.ended)
		cmd.Wait()
	}()
	return p
}

// stop ends the program, if it still runs, and waits for its end.
func (p *process) stop() {
	p.input.Close()
	<-p.ended
}

// kill ends it by SIGKILL.
func (p *process) kill() {
	syscall.Kill(-p.group, syscall.SIGKILL)
	p.stop()
}

// failed reports whether the program has said that it cannot start: as nginx, or Caddy.
func (p *process) failed() bool {
	said := p.stderr.String()
	return strings.Contains(said, "[emerg]") || strings.Contains(said, "\nError: ")
}

// output is what a program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var (
	buildOnce sync.Once
	program   string // the real binary
)

// build builds the real binary, once.
func build(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		path := filepath.Join(folder, "relukko")
		out, err := exec.Command("go", "build", "-o", path,
			"gitlab.com/relukko/relukko-go/cmd/relukko").CombinedOutput()
		require.NoError(t, err, "%s", out)
		program = path
	})
	require.NotEmpty(t, program, "the program was not built")
	return program
}

var listening = regexp.MustCompile(`(?m)^relukko: listening on (?:http://(\S+)|unix://\S+), `)

// serve starts a backend on TCP and returns its address.
func serve(t testing.TB) string { return serveOn(t, "127.0.0.1:0") }

func serveOn(t testing.TB, address string) string {
	t.Helper()
	_, at := serveStore(t, "memory", address)
	return at
}

// serveStore starts a backend on a store.
func serveStore(t testing.TB, store, address string) (*process, string) {
	t.Helper()
	p := start(t, []string{"RELUKKO_API_KEY=" + key}, build(t), "serve", "--store", store,
		"--addr", address, "--trusted-proxy", "127.0.0.1")
	t.Cleanup(p.stop)
	var at []string
	require.Eventually(t, func() bool {
		at = listening.FindStringSubmatch(p.stderr.String())
		return at != nil
	}, patience, 5*time.Millisecond, "the server does not start")
	return p, at[1]
}

// proxy is a running nginx or Caddy.
type proxy struct {
	t         testing.TB
	url       string
	env       []string
	command   []string
	reloading []string // a command that makes it reload its configuration
	process   *process
}

// nginxConf is a configuration with nginx's own time-outs, and all of its files in one folder.
const nginxConf = `daemon off;
pid nginx.pid;
error_log stderr notice;
%s
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	%s
}
`

// runNginx starts an nginx with the part of a configuration that is in http {}.
func runNginx(t testing.TB, config string) *proxy {
	t.Helper()
	program := find(t, "nginx", "Debian: apt install nginx-light; Fedora: dnf install nginx; "+
		"macOS: brew install nginx")
	dir := t.TempDir()
	user := ""
	if os.Geteuid() == 0 {
		user = "user root root;" // its workers use dir
	}
	command := []string{program, "-e", "stderr", "-p", dir, "-c", "nginx.conf"}
	p := &proxy{t: t, command: command, reloading: slices.Concat(command, []string{"-s", "reload"})}
	p.run(filepath.Join(dir, "nginx.conf"), fmt.Sprintf(nginxConf, user, config))
	return p
}

// runCaddy starts a Caddy with a site of its configuration, and all of its files in one folder.
func runCaddy(t testing.TB, config string) *proxy {
	t.Helper()
	program := find(t, "caddy", "Debian: apt install caddy")
	dir := t.TempDir()
	socket := "unix/" + filepath.Join(dir, "admin")
	file := filepath.Join(dir, "Caddyfile")
	p := &proxy{t: t, env: []string{"XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
		command:   []string{program, "run", "--config", file},
		reloading: []string{program, "reload", "--force", "--config", file, "--address", socket}}
	p.run(file, fmt.Sprintf("{\n\tadmin %s\n}\n%s", socket, config))
	return p
}

// run starts the proxy with a configuration that has it listen on 127.0.0.1:LISTEN.
func (p *proxy) run(file, config string) {
	t := p.t
	t.Helper()
	for tries := 0; ; tries++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := l.Addr().String()
		require.NoError(t, l.Close()) // another program may get it before the proxy does
		text := strings.ReplaceAll(config, "127.0.0.1:LISTEN", address)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		p.url = "http://" + address
		if p.start() {
			t.Cleanup(func() { p.process.stop() })
			return
		}
		said := p.process.stderr.String()
		if tries == 3 || !strings.Contains(said, "in use") {
			t.Fatalf("the proxy does not start: %s", said)
		}
	}
}

// start starts the proxy and reports whether the backend can be reached through it.
func (p *proxy) start() bool {
	p.process = start(p.t, p.env, p.command...)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(p.url + "/healthchecker")
		if err == nil {
			resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return resp.StatusCode == http.StatusOK
		}
		if p.process.failed() {
			break
		}
	}
	p.process.stop()
	return false
}

func (p *proxy) reload() {
	p.t.Helper()
	out, err := exec.Command(p.reloading[0], p.reloading[1:]...).CombinedOutput()
	require.NoError(p.t, err, "%s", out)
}

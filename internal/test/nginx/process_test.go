//go:build unix

package nginx

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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	key = "a key for the tests"

	requireEnv = "RELUKKO_REQUIRE_NGINX"
	patience   = 20 * time.Second // for what takes milliseconds unless the machine is busy
)

// find returns the path of nginx, which is not in every user's PATH.
func find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv(requireEnv) != "" {
		t.Fatalf("%s is set, but nginx is not installed", requireEnv)
	}
	t.Skip("NOT TESTED: nginx is not installed (Debian: apt install nginx-light; Fedora: dnf " +
		"install nginx; macOS: brew install nginx)")
	return ""
}

// process is a running program. It also ends if the test's process is killed.
type process struct {
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
	p := start(t, []string{"RELUKKO_API_KEY=" + key}, build(t), "serve", "--store", "memory",
		"--addr", address, "--trusted-proxy", "127.0.0.1", "--web", "on")
	t.Cleanup(p.stop)
	var at []string
	require.Eventually(t, func() bool {
		at = listening.FindStringSubmatch(p.stderr.String())
		return at != nil
	}, patience, 5*time.Millisecond, "the server does not start")
	return at[1]
}

// proxy is a running nginx.
type proxy struct {
	t       testing.TB
	url     string
	command []string
	process *process
}

// frame is a configuration with nginx's own time-outs, and all of its files in one folder.
const frame = `daemon off;
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

// run starts an nginx with the part of a configuration that is in http {}, which listens on
// 127.0.0.1:LISTEN.
func run(t testing.TB, config string) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{t: t, command: []string{find(t), "-e", "stderr", "-p", dir, "-c", "nginx.conf"}}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root root;" // its workers use dir
	}
	for tries := 0; ; tries++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := l.Addr().String()
		require.NoError(t, l.Close()) // another program may get it before nginx does
		text := fmt.Sprintf(frame, user, strings.ReplaceAll(config, "127.0.0.1:LISTEN", address))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(text), 0o600))
		p.url = "http://" + address
		if p.start() {
			t.Cleanup(func() { p.process.stop() })
			return p
		}
		said := p.process.stderr.String()
		if tries == 3 || !strings.Contains(said, "in use") {
			t.Fatalf("nginx does not start: %s", said)
		}
	}
}

// start starts nginx and reports whether the backend can be reached through it.
func (p *proxy) start() bool {
	p.process = start(p.t, nil, p.command...)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(p.url + "/healthchecker")
		if err == nil {
			resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return resp.StatusCode == http.StatusOK
		}
		if strings.Contains(p.process.stderr.String(), "[emerg]") {
			break
		}
	}
	p.process.stop()
	return false
}

// signal is nginx -s.
func (p *proxy) signal(name string) {
	p.t.Helper()
	out, err := exec.Command(p.command[0], append(p.command[1:], "-s", name)...).CombinedOutput()
	require.NoError(p.t, err, "%s", out)
}

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/test/overlap"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

const (
	envURL = "RELUKKO_BASE_URL"
	envKey = "RELUKKO_API_KEY"
)

// program is the path of the real binary.
var program string

var postgres pgtest.Cluster

func TestMain(m *testing.M) {
	overlap.Tests("8")
	dontIgnoreSignals()
	dir, err := os.MkdirTemp("", "relukko")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "relukko")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		panic(string(out))
	}
	goleak.VerifyTestMain(postgres.Main(m), goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// dontIgnoreSignals catches the signals that this process ignores (because of nohup, or
// a shell's &), so that the programs that the tests start do not inherit that.
func dontIgnoreSignals() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT,
		syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// patience bounds what takes milliseconds unless the machine is busy.
const patience = 20 * time.Second

// environment returns that of the tests without what the program uses, plus more.
func environment(t testing.TB, more ...string) []string {
	t.Helper()
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "RELUKKO_") && !strings.HasPrefix(name, "XDG_") &&
			!strings.HasSuffix(name, "_CA_BUNDLE") && name != "DATABASE_URL" && name != "HOME" {
			env = append(env, kv)
		}
	}
	return append(append(env, "HOME="+t.TempDir()), more...)
}

// of returns the environment of a client of s.
func of(s *relukkotest.Server) []string {
	return []string{"RELUKKO_BASE_URL=" + s.URL, "RELUKKO_API_KEY=" + s.APIKey}
}

// process is a running program.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr *lines
	alive  *os.File // ends when neither the process nor whatever it has started is left
	waited chan struct{}
}

// option changes the command before it starts.
type option func(*exec.Cmd)

func stdin(r io.Reader) option { return func(c *exec.Cmd) { c.Stdin = r } }

// openInput is a stdin that the test closes.
func openInput(t testing.TB) (option, io.WriteCloser) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return stdin(r), w
}

// breakPipe closes the reading end of a pipe and waits until writing to it fails: a
// process that is being started has a copy of it until it executes its program.
func breakPipe(t testing.TB, reading, writing *os.File) {
	t.Helper()
	require.NoError(t, reading.Close())
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(writing.Fd())}}, int(patience.Milliseconds()))
		if err != unix.EINTR {
			require.NoError(t, err)
			return
		}
	}
}

func in(dir string) option { return func(c *exec.Cmd) { c.Dir = dir } }

// launch starts the program. It is ended with the test.
func launch(t testing.TB, env []string, args []string, options ...option) *process {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = environment(t, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 100 * time.Millisecond // what it leaves behind may have its stderr
	p := &process{t: t, cmd: cmd, stderr: newLines(), waited: make(chan struct{})}
	cmd.Stderr = p.stderr
	for _, o := range options {
		o(cmd)
	}
	stdout, stdoutEnd, err := os.Pipe()
	require.NoError(t, err)
	alive, aliveEnd, err := os.Pipe()
	require.NoError(t, err)
	p.stdout, p.alive = bufio.NewReader(stdout), alive
	cmd.ExtraFiles = append([]*os.File{aliveEnd}, cmd.ExtraFiles...)
	if cmd.Stdout == nil {
		cmd.Stdout = stdoutEnd
	}
	require.NoError(t, cmd.Start())
	stdoutEnd.Close()
	aliveEnd.Close()
	go func() {
		defer close(p.waited)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		p.awaitEnd()
		stdout.Close()
		alive.Close()
	})
	return p
}

// run runs the program to its end.
func run(t testing.TB, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	p := launch(t, env, args)
	return p.end()
}

// end waits for the end and returns the exit status and the output.
func (p *process) end() (status int, stdout, stderr string) {
	p.t.Helper()
	out := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(p.stdout)
		out <- b
	}()
	status = p.awaitEnd()
	select {
	case b := <-out:
		return status, string(b), p.stderr.String()
	case <-time.After(patience):
		p.t.Fatal("something still has stdout")
		return
	}
}

// awaitEnd waits for the process itself, and returns its exit status, 128+n for
// a signal that ended it.
func (p *process) awaitEnd() int {
	p.t.Helper()
	select {
	case <-p.waited:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.waited
		p.t.Errorf("it did not end: %v\n%s", p.cmd.Args, p.stderr)
	}
	ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// awaitAllGone waits until all processes that it started have ended, and returns when
// that was.
func (p *process) awaitAllGone() time.Time {
	p.t.Helper()
	return awaitEOF(p.t, p.alive)
}

// awaitEOF waits until no process has the other end of a pipe.
func awaitEOF(t testing.TB, pipe *os.File) time.Time {
	t.Helper()
	require.NoError(t, pipe.SetReadDeadline(time.Now().Add(patience)))
	_, err := pipe.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "something is still there")
	return time.Now()
}

// line returns the next line of stdout.
func (p *process) line() string {
	p.t.Helper()
	s, err := p.stdout.ReadString('\n')
	require.NoError(p.t, err, "stderr: %s", p.stderr)
	return strings.TrimSuffix(s, "\n")
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
}

// lines is output that can be waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until what was written contains text, and returns it all.
func (l *lines) await(t testing.TB, text string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		l.mu.Lock()
		all, more := l.text.String(), l.more
		l.mu.Unlock()
		if strings.Contains(all, text) {
			return all
		}
		select {
		case <-more:
		case <-timeout:
			require.Contains(t, all, text)
		}
	}
}

// writeFile makes a file and returns its path.
func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// kinds are the two kinds of backend: ours, and the original.
var kinds = map[string]func(*relukkotest.Server){
	"our backend":      func(*relukkotest.Server) {},
	"original backend": original,
}

// original makes s behave as the original backend.
func original(s *relukkotest.Server) { s.Reconfigure(httpapi.LikeOriginal(httpapi.Original{})) }

// awaitHeartbeat returns when the lock has been renewed: from then on its deletion is noticed
// immediately.
func awaitHeartbeat(t testing.TB, s *relukkotest.Server, name string) {
	t.Helper()
	awaitRenewal(t, s, name, lockOf(t, s, name).CreatedAt)
}

// awaitRenewal returns when the lock has been renewed after that time.
func awaitRenewal(t testing.TB, s *relukkotest.Server, name string, after time.Time) {
	t.Helper()
	eventually(t, name+" is renewed", func() bool {
		return lockOf(t, s, name).UpdatedAt.After(after)
	})
}

// eventually waits for what another process does without a sign.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, what)
}

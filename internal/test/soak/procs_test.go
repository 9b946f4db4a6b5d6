//go:build linux

package soak

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a worker or a server. It dies with the test, whatever ends that.
type process struct {
	cmd    *exec.Cmd
	stderr *output
	ended  chan struct{}
}

// start starts a process whose stderr is appended to the file log.
func start(cmd *exec.Cmd, log string) (*process, error) {
	stderr, err := newOutput(log)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stderr: stderr, ended: make(chan struct{})}
	cmd.Env = append(bare(os.Environ()), cmd.Env...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		// The signal that it gets when its parent dies is tied to the thread
		// that started it: this goroutine keeps that one until the end.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in cmd.ProcessState
		}
		stderr.file.Close()
		close(p.ended)
	}()
	return p, <-started
}

// bare returns the environment without the variables that clients and servers read.
func bare(environment []string) (env []string) {
	for _, kv := range environment {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "RELUKKO_") && !strings.HasSuffix(name, "_CA_BUNDLE") &&
			name != "DATABASE_URL" {
			env = append(env, kv)
		}
	}
	return env
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// await returns an error unless it ends by itself, in time and with status 0.
func (p *process) await(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.ended:
		if !p.cmd.ProcessState.Success() {
			return errors.New(p.cmd.ProcessState.String())
		}
		return nil
	case <-timer.C:
	}
	p.signal(syscall.SIGQUIT) // its goroutines go to its log
	select {
	case <-p.ended:
	case <-time.After(time.Second):
		p.kill()
	}
	return fmt.Errorf("it has not ended within %v", d)
}

// output is the stderr of a process.
type output struct {
	mu    sync.Mutex
	file  *os.File
	head  []byte
	first chan struct{} // closed after the first line
}

func newOutput(path string) (*output, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	return &output{file: f, first: make(chan struct{})}, err
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if had := string(o.head); !strings.Contains(had, "\n") {
		if o.head = append(o.head, b...); strings.Contains(string(o.head), "\n") {
			close(o.first)
		}
	}
	return o.file.Write(b)
}

// node is a server that is started again and again over the same store.
type node struct {
	name    string
	program string
	store   string
	dir     string

	mu   sync.Mutex
	proc *process
	addr string // host:port; empty while it does not run
}

var listening = regexp.MustCompile(`\Arelukko: listening on http://(\S+), store`)

// errNotUp is returned when a server ended, or printed something else, at its start.
var errNotUp = errors.New("the server does not start")

// up starts the server. The error is errNotUp where its database may be what is
// missing.
func (n *node) up(grace time.Duration) error {
	cmd := exec.Command(n.program, "serve", "--addr", "127.0.0.1:0", "--store", n.store, "--grace",
		grace.String())
	cmd.Env = []string{"RELUKKO_API_KEY=" + apiKey, "HOME=" + n.dir}
	p, err := start(cmd, filepath.Join(n.dir, n.name+".log"))
	if err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.stderr.first:
	case <-p.ended:
	case <-timer.C:
	}
	p.stderr.mu.Lock()
	at := listening.FindSubmatch(p.stderr.head)
	p.stderr.mu.Unlock()
	if at == nil {
		p.kill()
		return fmt.Errorf("%w: it says %q", errNotUp, p.stderr.head)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proc, n.addr = p, string(at[1])
	return nil
}

// address is where the server listens; empty while it does not run.
func (n *node) address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr
}

// process is the server's process; nil while it does not run.
func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// down records that the server does not run, and returns the process that did.
func (n *node) down() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.proc
	n.proc, n.addr = nil, ""
	return p
}

// end ends the server in an orderly way.
func (n *node) end() error {
	p := n.down()
	if p == nil {
		return nil
	}
	p.signal(syscall.SIGTERM)
	if err := p.await(patience); err != nil {
		return fmt.Errorf("server %s, asked to end: %w", n.name, err)
	}
	return nil
}

// kill ends the server by force, if it runs.
func (n *node) kill() {
	if p := n.down(); p != nil {
		p.kill()
	}
}

//go:build linux

package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// node is a relukko serve that can be restarted, always at the same address.
type node struct {
	t     testing.TB
	store string
	addr  string
	url   string
	proc  *process // nil while it does not run
}

// process is a child process. It dies with the test, whatever ends that.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// launch starts a process.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is tied to the thread
		defer close(p.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in cmd.ProcessState
		}
	}()
	return p, <-started
}

// end sends a signal and waits for the end of the process.
func (p *process) end(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // it may have ended
	<-p.ended
}

// stores are the kinds of stores, with the function that makes a new one.
var stores = []struct {
	name string
	url  func(t testing.TB) string
}{
	{"memory", func(testing.TB) string { return "memory" }},
	{"bbolt", boltStore},
	{"PostgreSQL", func(t testing.TB) string { return postgres.Database(t) }},
}

// boltStore returns a new bbolt store: with -full on the disk, else on one in memory, because the
// disk is slow when all tests use it at a time.
func boltStore(t testing.TB) string {
	dir := t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "relukko-stream-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(memory) })
		dir = scaled(memory, dir)
	}
	return "bolt:" + filepath.Join(dir, "locks.db")
}

// serve starts a relukko serve, which ends with the test.
func serve(t testing.TB, store string) *node {
	t.Helper()
	addr := freeAddr(t)
	n := &node{t: t, store: store, addr: addr, url: "http://" + addr}
	n.start()
	t.Cleanup(func() { n.stop(syscall.SIGTERM) })
	return n
}

// lastPort is the port of the last node.
var lastPort atomic.Int32

// freeAddr returns an address for a node alone, also while it does not run: it is below the ports
// that systems assign, and below those of relukkotest.
func freeAddr(t testing.TB) string {
	const first, ports = 10_000, 5_000
	lastPort.CompareAndSwap(0, rand.Int32N(ports))
	for range ports {
		addr := fmt.Sprintf("127.0.0.1:%d", first+lastPort.Add(1)%ports)
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// start starts the server and returns when it responds.
func (n *node) start() {
	n.t.Helper()
	path, err := program()
	require.NoError(n.t, err)
	cmd := exec.Command(path, "serve", "--addr", n.addr, "--store", n.store)
	cmd.Env = []string{"RELUKKO_API_KEY=" + apiKey, "HOME=" + n.t.TempDir()}
	n.proc, err = launch(cmd)
	require.NoError(n.t, err)
	await(n.t, "the server responds", func() bool {
		select {
		case <-n.proc.ended:
			n.t.Fatalf("%v has ended: %v", cmd, cmd.ProcessState)
		default:
		}
		resp, err := http.Get(n.url + "/healthchecker")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (n *node) stop(s syscall.Signal) {
	if n.proc != nil {
		n.proc.end(s)
		n.proc = nil
	}
}

// cpu returns the processor time that the server has used.
func (n *node) cpu() time.Duration {
	n.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.proc.cmd.Process.Pid))
	require.NoError(n.t, err)
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	require.NoError(n.t, err)
	system, err := strconv.Atoi(fields[12])
	require.NoError(n.t, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// proxy returns a proxy to the server, which ends with the test.
func (n *node) proxy() *faultnet.Proxy {
	n.t.Helper()
	p, err := faultnet.OpenProxy("tcp", "127.0.0.1:0",
		func() (string, string) { return "tcp", n.addr })
	require.NoError(n.t, err)
	n.t.Cleanup(p.Close)
	return p
}

// await waits until f returns true.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); pause(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// answer is a response over plain HTTP.
type answer struct {
	status int
	body   string
}

// request makes one request over plain HTTP.
func request(ctx context.Context, c *http.Client, method, url, body string, headers ...string,
) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("X-API-KEY", apiKey)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(b)}, err
}

// waiter is one line of GET /v1/waiting/.
type waiter struct {
	Names   []string `json:"lock_names"`
	Creator string   `json:"creator"`
}

// waiting returns the requests that wait for a name, in their order.
func waiting(t testing.TB, url, name string) (creators []string) {
	t.Helper()
	a, err := request(t.Context(), http.DefaultClient, "GET", url+"/v1/waiting/", "")
	require.NoError(t, err)
	require.Equal(t, 200, a.status, a.body)
	var all []waiter
	require.NoError(t, json.Unmarshal([]byte(a.body), &all))
	for _, w := range all {
		if w.Names[0] == name {
			creators = append(creators, w.Creator)
		}
	}
	return creators
}

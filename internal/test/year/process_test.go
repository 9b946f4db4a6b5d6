//go:build linux

package year

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
)

// serving is a running relukko serve.
type serving struct {
	t             *testing.T
	spec, address string
	cmd           *exec.Cmd
	took          time.Duration // until it was ready
}

// start starts the server on a free port.
func start(t *testing.T, spec string) *serving {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	return startAt(t, spec, address)
}

func startAt(t *testing.T, spec, address string) *serving {
	t.Helper()
	cmd := exec.Command(program, "serve", "--addr", address, "--history", "365d",
		"--log-level", "error")
	cmd.Env = append(os.Environ(), "RELUKKO_API_KEY="+apiKey)
	if strings.HasPrefix(spec, "bolt:") {
		cmd.Args = append(cmd.Args, "--store", spec)
	} else {
		cmd.Env = append(cmd.Env, "DATABASE_URL="+spec)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(log)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "listening on")
	took := time.Since(began).Round(time.Millisecond)
	go lines.WriteTo(os.Stderr)
	s := &serving{t, spec, address, cmd, took}
	t.Cleanup(s.kill)
	return s
}

// kill ends the server by SIGKILL, if it still runs.
func (s *serving) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// restart kills the server and starts another one at its address.
func (s *serving) restart() *serving {
	s.t.Helper()
	s.kill()
	return startAt(s.t, s.spec, s.address)
}

func (s *serving) client() *api.Client {
	s.t.Helper()
	c, err := api.New("http://"+s.address, apiKey)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, c.Close()) })
	return c
}

// memory returns a line of the process's status, in MB.
func (s *serving) memory(line string) int {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	found := regexp.MustCompile(line + `:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(s.t, found)
	kB, err := strconv.Atoi(string(found[1]))
	require.NoError(s.t, err)
	return kB >> 10
}

// cpu returns the processor time that the process has used.
func (s *serving) cpu() time.Duration {
	s.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	user, err := strconv.Atoi(fields[12])
	require.NoError(s.t, err)
	system, err := strconv.Atoi(fields[13])
	require.NoError(s.t, err)
	return time.Duration(user+system) * 10 * time.Millisecond // the kernel's unit is fixed at that
}

//go:build linux

package packaging

import (
	"bufio"
	"net/http"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

var listening = regexp.MustCompile(`listening on (http://\S+), store bolt:/var/lib/relukko/locks.db`)

// requireServes runs the server of an image as the image says, but on a free port of loopback,
// where it makes a key.
func requireServes(t *testing.T, root string) {
	t.Helper()
	cmd := exec.Command("/usr/bin/relukko", "serve")
	cmd.Dir = "/"
	cmd.Env = []string{"RELUKKO_BIND_ADDR=127.0.0.1:0", "STATE_DIRECTORY=/var/lib/relukko"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532},
	}
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(log).ReadString('\n')
	require.NoError(t, err)
	at := listening.FindStringSubmatch(line)
	require.NotNil(t, at, line)
	resp, err := http.Get(at[1] + "/healthchecker")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
}

//go:build unix

package systemd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// listen returns a socket that receives what is sent to the name.
func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	return conn
}

func TestNotify(t *testing.T) {
	sockets := map[string]string{"a path": filepath.Join(t.TempDir(), "notify")}
	if runtime.GOOS == "linux" {
		sockets["an abstract socket"] = fmt.Sprint("@relukko-test-", os.Getpid())
	}
	for name, socket := range sockets {
		t.Run(name, func(t *testing.T) {
			conn := listen(t, socket)
			m, err := FromEnv(env(map[string]string{"NOTIFY_SOCKET": socket}))
			require.NoError(t, err)
			require.NoError(t, m.Notify(Ready, Status("listening\nhere")))
			b := make([]byte, 1000)
			n, err := conn.Read(b)
			require.NoError(t, err)
			require.Equal(t, "READY=1\nSTATUS=listening here", string(b[:n]))
		})
	}
}

func TestNobodyToNotify(t *testing.T) {
	m, err := FromEnv(env(nil))
	require.NoError(t, err)
	require.Zero(t, m)
	require.NoError(t, m.Notify(Ready))

	gone := filepath.Join(t.TempDir(), "gone")
	m, err = FromEnv(env(map[string]string{"NOTIFY_SOCKET": gone}))
	require.NoError(t, err)
	require.ErrorContains(t, m.Notify(Ready), gone)
}

func TestFromEnv(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for name, c := range map[string]struct {
		socket, usec, pid string
		want              time.Duration
		says              string
	}{
		"a watchdog":                {"/run/n", "30000000", pid, 30 * time.Second, ""},
		"of whatever process":       {"/run/n", "1500", "", 1500 * time.Microsecond, ""},
		"of another process":        {"/run/n", "30000000", "1", 0, ""},
		"no watchdog":               {"/run/n", "", pid, 0, ""},
		"a watchdog without socket": {"", "30000000", pid, 0, ""},
		"no number":                 {"/run/n", "30s", pid, 0, "WATCHDOG_USEC"},
		"zero":                      {"/run/n", "0", pid, 0, "WATCHDOG_USEC"},
		"too large":                 {"/run/n", "9223372036854775807", pid, 0, "WATCHDOG_USEC"},
		"a socket of another kind":  {"vsock:2:1", "", "", 0, "NOTIFY_SOCKET"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := FromEnv(env(map[string]string{
				"NOTIFY_SOCKET": c.socket, "WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid,
			}))
			require.Equal(t, c.want, m.Watchdog())
			if c.says == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}

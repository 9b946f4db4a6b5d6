//go:build unix

package unixsock

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder returns a new folder with a short name.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// stale leaves the socket of a server that was killed.
func stale(t testing.TB, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
}

func TestListen(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	for _, mode := range []fs.FileMode{0o660, 0o600, 0o666} {
		stale(t, path)
		l, err := Listen(path, mode)
		require.NoError(t, err)
		require.Equal(t, path, l.Addr().String())
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.ModeSocket|mode, info.Mode())
		conn, err := Dial(t.Context(), path)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		require.NoFileExists(t, path)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := folder(t)
	live := filepath.Join(dir, "live.sock")
	l, err := Listen(live, 0o600)
	require.NoError(t, err)
	defer l.Close()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("kept"), 0o600))
	for path, says := range map[string]string{
		live:                               "another server listens on " + live,
		file:                               file + " exists and is no socket",
		filepath.Join(dir, "none", "sock"): "there is no directory " + filepath.Join(dir, "none"),
		filepath.Join(file, "sock"):        "not a directory",
	} {
		_, err := Listen(path, 0o600)
		require.ErrorContains(t, err, says)
	}
	require.FileExists(t, file)
	conn, err := Dial(t.Context(), live)
	require.NoError(t, err, "the one that lives still does")
	conn.Close()
}

// Of servers that find the same stale socket one listens on it, and stays reachable.
func TestListenAtTheSameTime(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	for range 20 {
		stale(t, path)
		var won, lost []any
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				l, err := Listen(path, 0o600)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, l)
				} else {
					lost = append(lost, err.Error())
				}
			})
		}
		all.Wait()
		require.Len(t, won, 1)
		for _, text := range lost {
			require.Equal(t, "another server listens on "+path, text)
		}
		conn, err := Dial(t.Context(), path)
		require.NoError(t, err)
		conn.Close()
		require.NoError(t, won[0].(net.Listener).Close())
	}
}

// Close does not remove what another server has put there.
func TestCloseLeavesTheSocketOfAnother(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	first, err := Listen(path, 0o600)
	require.NoError(t, err)
	require.NoError(t, os.Rename(path, path+".moved"))
	second, err := Listen(path, 0o600)
	require.NoError(t, err)
	defer second.Close()
	require.NoError(t, first.Close())
	require.FileExists(t, path)
}

func TestErrorsOfDial(t *testing.T) {
	dir := folder(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	stale(t, in("stale"))
	require.NoError(t, os.WriteFile(in("file"), nil, 0o600))
	for path, want := range map[string]struct {
		is   error
		says string
	}{
		in("none"):      {fs.ErrNotExist, "there is no such socket (is the server running?)"},
		in("no/socket"): {fs.ErrNotExist, "there is no such socket (is the server running?)"},
		in("stale"): {syscall.ECONNREFUSED,
			"no server listens on the socket (has it been killed?)"},
		in("stale/v1"): {syscall.ENOTDIR,
			"it goes on after the name of a file (nothing may follow the name of the socket)"},
		in("file"): {syscall.ECONNREFUSED, "it is no socket"},
	} {
		_, err := Dial(t.Context(), path)
		require.ErrorIs(t, err, want.is)
		require.EqualError(t, err, "unix://"+path+": "+want.says)
	}
}

func TestPermissionDenied(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	l, err := Listen(path, 0o640)
	require.NoError(t, err)
	defer l.Close()
	e := explainDial(path, &os.SyscallError{Syscall: "connect", Err: syscall.EACCES})
	require.Regexp(t, `: permission denied: the socket is for the user \S+ and the group \S+ `+
		`\(mode 0640\) \(is this user in that group\?\)$`, e.Error())
	e = explainDial(path+"/x", &os.SyscallError{Syscall: "connect", Err: syscall.EACCES})
	require.Contains(t, e.Error(), "may not search one of its directories")
}

// A queue that is full for a moment is no error.
func TestDialWaitsForAServerThatIsSlowToAccept(t *testing.T) {
	path := filepath.Join(folder(t), "a.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	first, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer first.Close()
	if _, err := net.Dial("unix", path); !errors.Is(err, syscall.EAGAIN) {
		t.Logf("this system refuses in another way: %v", err)
		return
	}
	_, err = Listen(path, 0o600)
	require.ErrorContains(t, err, "is in use, perhaps by another server", "it is not stale")
	ctx, cancel := context.WithTimeout(t.Context(), 4*fullWait)
	defer cancel()
	_, err = Dial(ctx, path)
	require.ErrorContains(t, err, "unix://"+path+": ")
	accepted := make(chan error, 1)
	time.AfterFunc(4*fullWait, func() {
		conn, _, err := syscall.Accept(fd)
		syscall.Close(conn)
		accepted <- err
	})
	conn, err := Dial(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, <-accepted)
}

func TestParse(t *testing.T) {
	for address, want := range map[string]string{
		"unix:///run/a.sock":  "/run/a.sock",
		"unix:/run/a.sock":    "/run/a.sock",
		"unix:////run/./a":    "/run/a",
		"unix:///run/a b:c@d": "/run/a b:c@d",
	} {
		path, ok, err := Parse(address)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, path)
		again, _, err := Parse(URL(path))
		require.NoError(t, err)
		require.Equal(t, path, again)
	}
	for _, address := range []string{"", "http://h", "/run/a.sock", "UNIX:/a"} {
		_, ok, err := Parse(address)
		require.NoError(t, err)
		require.False(t, ok, address)
	}
	longest := "unix:///" + strings.Repeat("x", maxPath-1)
	_, _, err := Parse(longest)
	require.NoError(t, err)
	for _, address := range []string{"unix:", "unix://", "unix:a", "unix://run/a", "unix:///a/",
		"unix:///", "unix:///a?b", "unix:///a#b", "unix:///a%20b", "unix:///a\n", longest + "x"} {
		_, ok, err := Parse(address)
		require.True(t, ok)
		require.Error(t, err, address)
	}
}

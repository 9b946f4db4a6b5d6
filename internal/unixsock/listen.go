package unixsock

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// probeTime is how long a server that listens may take to accept a connection.
const probeTime = 2 * time.Second

// Listen listens on the socket path and gives the file that mode. It replaces the socket of a
// server that has ended; where a server still listens, or the file is no socket, it returns an
// error. Close removes the file, unless it is another server's by then.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	defer lockDir(filepath.Dir(path))() // two servers that find one stale socket
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err = removeStale(path); err != nil {
			return nil, err
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, explainListen(path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chmod(path, mode); err == nil {
		var own fs.FileInfo
		if own, err = os.Lstat(path); err == nil {
			return &listener{Listener: l, path: path, own: own}, nil
		}
	}
	os.Remove(path)
	l.Close()
	return nil, err
}

// removeStale removes the socket path if no server listens on it.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is no socket: choose another path or remove it", path)
	}
	conn, err := net.DialTimeout("unix", path, probeTime)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another server listens on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is in use, perhaps by another server: %w", path, err)
	}
	return os.Remove(path)
}

func explainListen(path string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no directory %s for the socket: %w", dir, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not create a socket in %s: %w", dir, err)
	}
	return err
}

// listener removes its socket when it is closed.
type listener struct {
	net.Listener
	path string
	own  fs.FileInfo
	once sync.Once
	err  error
}

// Close removes the file first: once nobody listens another server may replace it.
func (l *listener) Close() error {
	l.once.Do(func() {
		if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.own) {
			os.Remove(l.path)
		}
		l.err = l.Listener.Close()
	})
	return l.err
}

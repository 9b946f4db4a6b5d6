// Package unixsock is what client and server have in common where they use a Unix socket: its
// address, who listens on it, and what the errors mean.
package unixsock

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"
)

const (
	scheme  = "unix:"
	example = "unix:///run/relukko.sock"
)

// maxPath is the length of the longest path that the system takes, in bytes.
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// Parse returns the path of the socket that address names: unix:///run/relukko.sock, or the same
// without the two slashes. ok reports whether address is meant as one. Its errors do not quote it.
func Parse(address string) (path string, ok bool, err error) {
	path, ok = strings.CutPrefix(address, scheme)
	if !ok {
		return "", false, nil
	}
	path = strings.TrimPrefix(path, "//")
	switch {
	case !filepath.IsAbs(path):
		err = errors.New("the whole path of the socket must follow unix:// as in " + example)
	case strings.HasSuffix(path, "/"):
		err = errors.New("nothing may follow the name of the socket, not even a slash")
	case strings.ContainsAny(path, "?#%"):
		err = errors.New("the path of a socket must have none of ? # %")
	case strings.ContainsFunc(path, unicode.IsControl):
		err = errors.New("the path of the socket has a control character")
	case len(filepath.Clean(path)) > maxPath:
		err = fmt.Errorf("the path of a socket must not be longer than %d bytes", maxPath)
	default:
		return filepath.Clean(path), true, nil
	}
	return "", true, err
}

// URL returns the address of the socket path.
func URL(path string) string { return scheme + "//" + path }

//go:build unix

package settings

import (
	"io/fs"
	"os"
	"syscall"
)

// systemFile has the settings of all users of the machine. It is a variable for the tests.
var systemFile = "/etc/relukko/client.env"

// openNoFollow opens a file to read it. It follows no link, and does not wait for the writer of a
// named pipe.
func openNoFollow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// notPrivate returns what makes a file another user's too; "" if nothing does.
func notPrivate(info fs.FileInfo) string {
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return "it is no regular file"
	case !ok || int(owner.Uid) != os.Geteuid():
		return "it belongs to another user"
	case info.Mode()&0o077 != 0:
		return "other users may read or write it: chmod 600"
	}
	return ""
}

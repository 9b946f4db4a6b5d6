//go:build unix

package unixsock

import (
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
	"syscall"
)

// access returns for whom a socket is.
func access(info fs.FileInfo) string {
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "another user's"
	}
	owner := strconv.FormatUint(uint64(of.Uid), 10)
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	group := strconv.FormatUint(uint64(of.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Sprintf("for the user %s and the group %s (mode %04o)",
		owner, group, info.Mode().Perm())
}

//go:build unix

package pgtest

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// aside keeps the terminal's signals from a process: tests end their servers themselves.
func aside() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// runAs returns the attributes with which to start PostgreSQL's programs. They refuse to run as
// root: root runs them as another user, which then owns the folder.
func runAs(dir string) (*syscall.SysProcAttr, error) {
	attr := aside()
	if os.Geteuid() != 0 {
		return attr, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return attr, os.Chown(dir, int(uid), int(gid))
	}
	return nil, errors.New(
		"PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}

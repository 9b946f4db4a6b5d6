//go:build !unix

package pgtest

import (
	"errors"
	"syscall"
)

func aside() *syscall.SysProcAttr { return nil }

func runAs(string) (*syscall.SysProcAttr, error) {
	return nil, errors.New("a private PostgreSQL is started on Unix only")
}

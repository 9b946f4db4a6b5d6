package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// site is a folder for the servers of one bench, and what several of them share.
// It must be used by one goroutine only.
type site struct {
	dir      string
	relukko  string    // the program, once it is built
	postgres *postgres // once it was started
}

func newSite() (*site, error) {
	dir, err := os.MkdirTemp("", "relukko-bench")
	if err != nil {
		return nil, err
	}
	// PostgreSQL may run as another user, with a folder in this one.
	return &site{dir: dir}, os.Chmod(dir, 0o711)
}

func (s *site) close() error {
	var err error
	if s.postgres != nil {
		err = s.postgres.process.stop()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// folder creates a folder for a server's data.
func (s *site) folder(name string) (string, error) { return os.MkdirTemp(s.dir, name) }

// program returns the path of the command relukko, which it builds the first time.
func (s *site) program() (string, error) {
	if s.relukko != "" {
		return s.relukko, nil
	}
	path := filepath.Join(s.dir, "relukko")
	out, err := exec.Command("go", "build", "-o", path,
		"gitlab.com/relukko/relukko-go/cmd/relukko").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building relukko, which works in the folder bench only: %w\n%s", err,
			out)
	}
	s.relukko = path
	return path, nil
}

// freePort returns a port on which nothing listens at present.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

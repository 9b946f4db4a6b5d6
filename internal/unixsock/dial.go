package unixsock

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"gitlab.com/relukko/relukko-go/internal/rawio"
)

const (
	dialTime = 30 * time.Second

	// fullWait is the pause between two attempts while a server's queue of new connections is full.
	// A TCP connection waits in that case, a Unix socket refuses immediately.
	fullWait = 5 * time.Millisecond
)

// DialError is the error of [Dial]. It says what is wrong with the socket and what to do.
type DialError struct {
	Path    string
	Problem string
	Remedy  string // may be ""
	Err     error
}

func (e *DialError) Error() string {
	text := URL(e.Path) + ": " + e.Problem
	if e.Remedy != "" {
		text += " (" + e.Remedy + ")"
	}
	return text
}

func (e *DialError) Unwrap() error { return e.Err }

// Dialer returns a function for [net/http.Transport]: it connects to the socket path, whatever
// address it is given.
func Dialer(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return Dial(ctx, path) }
}

// Dial connects to the socket path, within 30 s. Its error is a [*DialError], also when ctx ends.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return rawio.New(conn), nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return nil, explainDial(path, err)
		}
		select {
		case <-time.After(fullWait):
		case <-ctx.Done():
			return nil, explainDial(path, err)
		}
	}
}

func explainDial(path string, err error) *DialError {
	e := &DialError{Path: path, Problem: err.Error(), Err: err}
	info, statErr := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrPermission) && statErr == nil:
		e.Problem = "permission denied: the socket is " + access(info)
		e.Remedy = "is this user in that group?"
	case errors.Is(err, fs.ErrPermission):
		e.Problem = "permission denied: this user may not search one of its directories"
	case errors.Is(err, syscall.ENOTDIR):
		e.Problem = "it goes on after the name of a file"
		e.Remedy = "nothing may follow the name of the socket"
	case errors.Is(err, fs.ErrNotExist):
		e.Problem, e.Remedy = "there is no such socket", "is the server running?"
	case statErr == nil && info.Mode().Type() != fs.ModeSocket:
		e.Problem = "it is no socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Problem, e.Remedy = "no server listens on the socket", "has it been killed?"
	}
	return e
}

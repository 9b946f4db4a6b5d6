package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// echo is the floor for every lock that Go programs exchange messages for: Lock and Unlock are 200
// bytes each, there and back over TCP, with a goroutine that reads and nothing to be done for them.
var echo = peer{
	name: "echo", label: "200 bytes there and back in Go, twice: the floor",
	only: []string{"pinned-1", "pinned-2"},
	notes: []string{"It is no lock, only the floor for one: two messages of 200 bytes there and " +
		"back over TCP, between two Go programs."},
	start: func(*site) (service, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		const listening = "listening on "
		p, line, err := start(command{
			args: []string{self, roleEcho}, stop: syscall.SIGTERM, ready: listening,
		})
		if err != nil {
			return nil, err
		}
		_, addr, _ := strings.Cut(line, listening)
		return &echoService{p, addr}, nil
	},
}

const echoSize = 200

// serveEcho serves until it is ended.
func serveEcho() error {
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for b := make([]byte, echoSize); ; {
				if _, err := io.ReadFull(conn, b); err != nil {
					return
				}
				if _, err := conn.Write(b); err != nil {
					return
				}
			}
		}()
	}
}

type echoService struct {
	process *process
	addr    string
}

func (s *echoService) connect(context.Context, bool) (client, error) {
	conn, err := net.Dial("tcp", s.addr)
	return &echoClient{conn}, err
}

func (s *echoService) requests(context.Context) (float64, error) { return 0, nil }
func (s *echoService) pids() []int                               { return s.process.tree() }
func (s *echoService) version() string                           { return "" }
func (s *echoService) close() error                              { return s.process.stop() }

type echoClient struct{ conn net.Conn }

func (c *echoClient) lockers(_ context.Context, _ string, n int) ([]locker, error) {
	if n > 1 {
		return nil, errors.New("an echo excludes nobody")
	}
	l := &echoLocker{conn: c.conn, read: make(chan struct{})}
	go func() {
		defer close(l.read)
		for b := make([]byte, echoSize); ; {
			if _, err := io.ReadFull(c.conn, b); err != nil {
				return
			}
			l.read <- struct{}{}
		}
	}()
	return []locker{l}, nil
}

func (c *echoClient) close() error { return c.conn.Close() }

type echoLocker struct {
	conn    net.Conn
	read    chan struct{}
	message [echoSize]byte
}

func (l *echoLocker) lock(context.Context) error { return l.unlock() }

func (l *echoLocker) unlock() error {
	if _, err := l.conn.Write(l.message[:]); err != nil {
		return err
	}
	if _, ok := <-l.read; !ok {
		return io.ErrUnexpectedEOF
	}
	return nil
}

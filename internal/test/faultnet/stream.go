package faultnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// streamSize is how much a writer may be ahead of its reader.
const streamSize = 64 << 10

// A stream is one direction of a connection: bytes in order, a bounded buffer,
// an end for the writer and one for the reader. All waiting is on a [sync.Cond],
// which testing/synctest counts as durably blocked.
type stream struct {
	mu      sync.Mutex
	changed sync.Cond // broadcast whenever any of the fields below changes
	buf     []byte    // written and not yet read

	readErr  error // what Read returns, buffered bytes or not; nil while the reader's end is open
	writeErr error // what Write returns; nil while bytes are accepted
	endErr   error // what Read returns once buf is empty: how the writer ended the stream

	readBy, writeBy deadline
}

func newStream() *stream {
	s := &stream{}
	s.changed.L = &s.mu
	return s
}

// Read waits for at least one byte, the end of the stream, or the deadline.
func (s *stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readErr != nil:
			return 0, s.readErr
		case s.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(b, s.buf)
			s.buf = s.buf[n:]
			s.changed.Broadcast()
			return n, nil
		case s.endErr != nil:
			return 0, s.endErr
		}
		s.changed.Wait()
	}
}

// Write waits until the buffer has taken all of b, or fails with the number of
// bytes that it has taken.
func (s *stream) Write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writeErr != nil:
			return n, s.writeErr
		case s.writeBy.passed:
			return n, os.ErrDeadlineExceeded
		case n == len(b):
			return n, nil
		}
		if space := min(streamSize-len(s.buf), len(b)-n); space > 0 {
			s.buf = append(s.buf, b[n:n+space]...)
			n += space
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

// closeRead closes the reader's end: what was not read is gone, and writes fail.
func (s *stream) closeRead() {
	s.update(func() {
		s.readErr = first(s.readErr, net.ErrClosed)
		s.writeErr = first(s.writeErr, error(syscall.EPIPE))
		s.buf = nil
		s.readBy.set(s, time.Time{})
	})
}

// closeWrite closes the writer's end: the reader gets what was written, then
// err, which is io.EOF unless something went wrong.
func (s *stream) closeWrite(err error) {
	s.update(func() {
		s.writeErr = first(s.writeErr, net.ErrClosed)
		s.endErr = first(s.endErr, err)
		s.writeBy.set(s, time.Time{})
	})
}

// reset breaks the stream for both ends at once.
func (s *stream) reset() {
	s.update(func() {
		s.readErr = first(s.readErr, error(syscall.ECONNRESET))
		s.writeErr = first(s.writeErr, error(syscall.ECONNRESET))
		s.buf = nil
	})
}

func (s *stream) setReadDeadline(t time.Time)  { s.update(func() { s.readBy.set(s, t) }) }
func (s *stream) setWriteDeadline(t time.Time) { s.update(func() { s.writeBy.set(s, t) }) }

func (s *stream) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

// A deadline is one end's time limit. The mutex of its stream guards it.
type deadline struct {
	timer  *time.Timer // nil, or what will set passed
	passed bool
}

// set replaces the limit; the zero time is none.
func (d *deadline) set(s *stream, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.passed = false
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.passed = true
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		s.update(func() {
			if d.timer == timer { // not replaced while this function waited for the mutex
				d.passed = true
			}
		})
	})
	d.timer = timer
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// explain makes err what package net would return.
func explain(c net.Conn, op string, err error) error {
	var explained *net.OpError
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &explained) {
		return err
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(),
		Addr: c.RemoteAddr(), Err: err}
}

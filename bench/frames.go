package main

import (
	"io"
	"sync/atomic"
)

// countedSocket is a connection over which WebSocket frames go. It counts those of both
// directions.
type countedSocket struct {
	io.ReadWriteCloser
	down, up frameCounter
}

func (s *countedSocket) Read(b []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(b)
	s.down.pass(b[:n])
	return n, err
}

func (s *countedSocket) Write(b []byte) (int, error) {
	s.up.pass(b)
	return s.ReadWriteCloser.Write(b)
}

// frameCounter counts the frames in a direction of a WebSocket, as their bytes pass in pieces of
// any size.
type frameCounter struct {
	count *atomic.Int64
	head  []byte // the beginning of the next frame's head, as far as it has passed
	skip  uint64 // what is left of the frame, after its head
}

func (f *frameCounter) pass(b []byte) {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(uint64(len(b)), f.skip)
			b = b[n:]
			f.skip -= n
			continue
		}
		f.head, b = append(f.head, b[0]), b[1:]
		if rest, ok := afterHead(f.head); ok {
			f.count.Add(1)
			f.head, f.skip = f.head[:0], rest
		}
	}
}

// afterHead returns how many bytes of a frame follow its first two, or its first two and its
// extended length (RFC 6455, 5.2). It returns false if head is not yet all of that.
func afterHead(head []byte) (rest uint64, ok bool) {
	if len(head) < 2 {
		return 0, false
	}
	long := 0
	switch rest = uint64(head[1] & 0x7f); rest {
	case 126:
		long = 2
	case 127:
		long = 8
	}
	if len(head) < 2+long {
		return 0, false
	}
	if long > 0 {
		rest = 0
		for _, b := range head[2:] {
			rest = rest<<8 | uint64(b)
		}
	}
	if head[1]&0x80 != 0 {
		rest += 4 // the mask
	}
	return rest, true
}

package main

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// section is a critical section that detects two holders at one time. It is in
// shared memory, so it detects those of other processes too.
type section struct {
	path string
	mem  []byte
	in   *atomic.Int64 // the number of the holder that is inside; 0: none

	overlaps atomic.Int64 // entries and exits at which another holder was inside
}

// newSection creates a section in the file path, or opens an existing one.
func newSection(path string) (*section, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &section{path: path, mem: mem, in: (*atomic.Int64)(unsafe.Pointer(&mem[0]))}, nil
}

func (s *section) enter(who int64) {
	if s != nil && !s.in.CompareAndSwap(0, who) {
		s.overlaps.Add(1)
		s.in.Store(who)
	}
}

func (s *section) leave(who int64) {
	if s != nil && !s.in.CompareAndSwap(who, 0) {
		s.overlaps.Add(1)
	}
}

func (s *section) close() error { return syscall.Munmap(s.mem) }

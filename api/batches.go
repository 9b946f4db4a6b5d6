package api

import (
	"io"
	"sync"
)

const maxCollected = 16 << 10 // bytes of frames that take one write

// batches is the connection below a WebSocket. It can collect frames, which then take one write.
type batches struct {
	io.ReadWriteCloser

	mu         sync.Mutex
	collecting bool
	frames     []byte
}

// collect begins to collect if on is set. Frames of other goroutines are collected as well.
func (b *batches) collect(on bool) {
	b.mu.Lock()
	b.collecting = on
	b.mu.Unlock()
}

func (b *batches) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.collecting {
		return b.ReadWriteCloser.Write(p)
	}
	b.frames = append(b.frames, p...)
	if len(b.frames) < maxCollected {
		return len(p), nil
	}
	return len(p), b.pass()
}

// flush writes what was collected, and ends collecting.
func (b *batches) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.collecting = false
	return b.pass()
}

// pass writes what was collected. The caller holds mu.
func (b *batches) pass() error {
	if len(b.frames) == 0 {
		return nil
	}
	_, err := b.ReadWriteCloser.Write(b.frames)
	b.frames = b.frames[:0]
	return err
}

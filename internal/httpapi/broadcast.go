package httpapi

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	broadcastBacklog = 4096 // messages that a watcher may lag before it is disconnected
	watcherGroups    = 64   // are woken one after the other
)

// broadcast spreads messages to the watchers. They share one ring of messages and read it at their
// own pace, so that publishing costs the same however many they are. A goroutine wakes them group
// by group, so that requests meanwhile do not wait for a processor after thousands of them.
type broadcast struct {
	watchers atomic.Int32
	pending  atomic.Bool // something was published since the watchers were last woken
	wake     chan struct{}

	mu    sync.Mutex
	ring  [][]byte                     // made with the first watcher
	next  uint64                       // messages ever; message n is at n % broadcastBacklog
	more  [watcherGroups]chan struct{} // closed when there are more messages; nil: none waits
	group int                          // of the latest watcher
}

func (b *broadcast) init() { b.wake = make(chan struct{}, 1) }

// run wakes the watchers until ctx ends.
func (b *broadcast) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		for g := range b.more {
			b.mu.Lock()
			more := b.more[g]
			b.more[g] = nil
			b.mu.Unlock()
			if more != nil {
				close(more)
				runtime.Gosched()
			}
		}
	}
}

// publish adds a message, which must not change afterwards. The watchers read it after flush at
// the latest.
func (b *broadcast) publish(message []byte) {
	b.mu.Lock()
	if b.ring != nil {
		b.ring[b.next%broadcastBacklog] = message
		b.next++
	}
	b.mu.Unlock()
	b.pending.Store(true)
}

// flush wakes the watchers for what was published. It sends the response first, if there is one:
// the client that releases a lock does not wait for all that hear of it.
func (b *broadcast) flush(rec *recorder) {
	if !b.pending.Load() || !b.pending.Swap(false) {
		return
	}
	if rec != nil && rec.status >= http.StatusOK { // below that the connection is a WebSocket's
		if f, ok := rec.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// subscription is one watcher's place in the ring.
type subscription struct {
	broadcast *broadcast
	group     int
	pos       uint64
}

// subscribe returns a place from which all that is published later is read.
func (b *broadcast) subscribe() *subscription {
	b.watchers.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ring == nil {
		b.ring = make([][]byte, broadcastBacklog)
	}
	b.group = (b.group + 1) % watcherGroups
	return &subscription{broadcast: b, group: b.group, pos: b.next}
}

func (sub *subscription) close() { sub.broadcast.watchers.Add(-1) }

// take fills batch with the next messages. If there are none, more is closed when there are. It
// reports false if the watcher lags so far that it has missed messages.
func (sub *subscription) take(batch [][]byte) (n int, more <-chan struct{}, ok bool) {
	b := sub.broadcast
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next-sub.pos > broadcastBacklog {
		return 0, nil, false
	}
	for n < len(batch) && sub.pos < b.next {
		batch[n] = b.ring[sub.pos%broadcastBacklog]
		sub.pos++
		n++
	}
	if n == 0 && b.more[sub.group] == nil {
		b.more[sub.group] = make(chan struct{})
	}
	return n, b.more[sub.group], true
}

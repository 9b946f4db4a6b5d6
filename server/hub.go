package server

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	hubBacklog  = 4096   // messages that a watcher may be behind before it is disconnected
	maxWatchers = 10_000 // more are refused
	hubGroups   = 64     // in which watchers are woken, one group after the other
)

// hub spreads messages to the watchers. They share one ring of messages, from which each reads at its own pace, so that
// publishing costs the same however many they are. They are woken by a goroutine of its own, and not all at once: who makes
// a request meanwhile must not queue behind thousands of them for a processor.
type hub struct {
	watchers atomic.Int32
	unheard  atomic.Bool // something was published since the watchers were last woken
	bell     chan struct{}

	mu   sync.Mutex
	ring [][]byte                 // made with the first watcher
	next uint64                   // the number of messages ever; message n is at n % hubBacklog
	news [hubGroups]chan struct{} // closed when there are more messages; nil where nobody waits for them
	last int                      // the group of the watcher who came last
}

func (h *hub) init() {
	h.bell = make(chan struct{}, 1)
}

// run wakes the watchers whenever it is rung for, until ctx ends.
func (h *hub) run(ctx context.Context) func() {
	return func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-h.bell:
			}
			for g := range h.news {
				h.mu.Lock()
				news := h.news[g]
				h.news[g] = nil
				h.mu.Unlock()
				if news != nil {
					close(news)
					runtime.Gosched()
				}
			}
		}
	}
}

// publish adds a message, which nobody changes from then on. The watchers read it after announce at the latest.
func (h *hub) publish(message []byte) {
	h.mu.Lock()
	if h.ring != nil {
		h.ring[h.next%hubBacklog] = message
		h.next++
	}
	h.mu.Unlock()
	h.unheard.Store(true)
}

// announce has the watchers woken for what was published. The answer to the request that brought it goes out
// first, when there is one: he who deletes a lock must not wait for all who hear of it.
func (h *hub) announce(rec *recorder) {
	if !h.unheard.Load() || !h.unheard.Swap(false) {
		return
	}
	if rec != nil && rec.status >= http.StatusOK { // below that it is a WebSocket, and the connection not ours any more
		if f, ok := rec.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
	}
	select {
	case h.bell <- struct{}{}:
	default:
	}
}

// subscription is one watcher's place in the ring.
type subscription struct {
	hub   *hub
	group int
	pos   uint64
}

// subscribe answers a place from which all that is published later is read; nil when there are too many.
func (h *hub) subscribe() *subscription {
	if h.watchers.Add(1) > maxWatchers {
		h.watchers.Add(-1)
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ring == nil {
		h.ring = make([][]byte, hubBacklog)
	}
	h.last = (h.last + 1) % hubGroups
	return &subscription{hub: h, group: h.last, pos: h.next}
}

func (sub *subscription) close() { sub.hub.watchers.Add(-1) }

// take fills batch with the next messages. When there are none, news is closed as soon as there are. Not ok: the
// watcher is so far behind that messages are lost.
func (sub *subscription) take(batch [][]byte) (n int, news <-chan struct{}, ok bool) {
	h := sub.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next-sub.pos > hubBacklog {
		return 0, nil, false
	}
	for n < len(batch) && sub.pos < h.next {
		batch[n] = h.ring[sub.pos%hubBacklog]
		sub.pos++
		n++
	}
	if n == 0 && h.news[sub.group] == nil {
		h.news[sub.group] = make(chan struct{})
	}
	return n, h.news[sub.group], true
}

// publish tells the watchers what happened to a lock: kind is created, updated or deleted. It is put into JSON once.
func (s *Server) publish(kind string, lock *Lock) {
	if s.hub.watchers.Load() == 0 {
		return
	}
	if message := s.message(kind, lock); message != nil {
		s.hub.publish(message)
	}
}

func (s *Server) message(kind string, lock *Lock) []byte {
	switch {
	case kind == "deleted" && s.deleted != nil:
		message, err := json.Marshal(map[string]any{kind: s.deleted(*lock)})
		if err != nil {
			s.log.Error("WithDeletedShape made something that is not JSON", "error", err)
			return nil
		}
		return message
	case s.has(ExtBroadcastContent):
		b := append(make([]byte, 0, 512), `{"`...)
		b = append(b, kind...)
		b = append(b, `":`...)
		b = appendLock(b, lock, s.has(ExtFencingToken), -1)
		return append(b, '}')
	case kind == "deleted":
		return []byte(`{"deleted":true}`)
	default:
		return nil
	}
}

package httpapi

import (
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// The limits of WebSockets, broadcasts and streams together.
const (
	maxSockets      = 10_000
	maxSocketsNamed = maxSockets / 2 // with the keys of one name, but for admins'
)

// sockets counts the WebSockets that are open.
type sockets struct {
	mu    sync.Mutex
	all   int
	named map[string]int
}

// add counts one more with a key of that name, or one less with n = -1.
func (s *sockets) add(name string, n int) (all, named int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named == nil {
		s.named = make(map[string]int)
	}
	s.all += n
	s.named[name] += n
	all, named = s.all, s.named[name]
	if named == 0 {
		delete(s.named, name)
	}
	return all, named
}

const (
	maxLong      = 32              // long responses at a time
	maxLongNamed = 8               // of these with the keys of one name
	longWait     = 5 * time.Second // until a further one is refused
)

// longResponses limits how many responses with lists are in memory, as they are until their
// clients have taken them.
type longResponses struct {
	all *semaphore.Weighted

	mu    sync.Mutex
	named map[string]*semaphore.Weighted
}

func (l *longResponses) init() {
	l.all, l.named = semaphore.NewWeighted(maxLong), make(map[string]*semaphore.Weighted)
}

// of returns the semaphore of a key's name.
func (l *longResponses) of(name string) *semaphore.Weighted {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.named[name] == nil {
		l.named[name] = semaphore.NewWeighted(maxLongNamed)
	}
	return l.named[name]
}

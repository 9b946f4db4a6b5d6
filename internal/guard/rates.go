package guard

import (
	"sync"
	"time"
)

// rates bounds the requests in a second with the keys of each name. As many may come together.
type rates struct {
	most int

	mu    sync.Mutex
	names map[string]*rate
}

// rate is how many requests a name could make at an instant.
type rate struct {
	left float64
	at   time.Time
}

// take reports whether one more request may be made with a key of that name.
func (r *rates) take(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		r.names = make(map[string]*rate)
	}
	now, most := time.Now(), float64(r.most)
	n := r.names[name]
	if n == nil {
		n = &rate{left: most, at: now}
		r.names[name] = n
	}
	n.left = min(n.left+now.Sub(n.at).Seconds()*most, most)
	n.at = now
	if n.left < 1 {
		return false
	}
	n.left--
	return true
}

package stream

import (
	"time"

	"gitlab.com/relukko/relukko-go/internal/clock"
)

const (
	sendsKept  = 256
	sendsApart = 10 * time.Millisecond
)

// sends is when the last requests of a connection were sent. It records an instant at most each
// sendsApart: that of an earlier request is as good, since it can only make a lease shorter.
type sends struct {
	ring  []sent
	count int // of all that were recorded
}

type sent struct {
	n  uint64
	at clock.Instant
}

// add records that request n is sent after the instant now.
func (s *sends) add(n uint64, now clock.Instant) {
	if s.count > 0 {
		passed := now.Sub(s.recorded(s.count - 1).at)
		if passed >= 0 && passed < sendsApart { // negative: a clock was set back
			return
		}
	}
	if len(s.ring) < sendsKept {
		s.ring = append(s.ring, sent{n, now})
	} else {
		s.ring[s.count%sendsKept] = sent{n, now}
	}
	s.count++
}

// before returns an instant before request n was sent, and reports whether it still knows one.
func (s *sends) before(n uint64) (clock.Instant, bool) {
	for i := s.count - 1; i >= max(0, s.count-sendsKept); i-- {
		if r := s.recorded(i); r.n <= n {
			return r.at, true
		}
	}
	return clock.Instant{}, false
}

func (s *sends) recorded(i int) sent { return s.ring[i%sendsKept] }

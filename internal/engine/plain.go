package engine

import (
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	plainRank = 5 * time.Minute        // for which a plain client keeps its rank between two tries
	plainTurn = 600 * time.Millisecond // for which a name stays free for it at its turn
)

// plainKey identifies a plain client, which tries again and again over HTTP.
type plainKey struct{ owner, ip, creator string }

func plainOf(w *Waiter) plainKey {
	key := plainKey{owner: w.New.Owner, ip: w.New.IP}
	if w.New.Creator != nil {
		key.creator = w.creator()
	}
	return key
}

// creator returns the creator, which is not nil, without the mark at its end.
func (w *Waiter) creator() string { return strings.TrimSuffix(*w.New.Creator, " #"+w.New.Mark) }

// takeRank gives the place of a plain client the rank that it has kept, and ends a reservation for
// it.
func (e *Engine) takeRank(q *queue, p *place) {
	if q.reserved != nil && q.reserved.plain == p.w.plain {
		p.rank, p.arrival = q.reserved.rank, q.reserved.arrival
		q.reserved = nil
		return
	}
	for old := range q.all() {
		if old.w == nil && old.plain == p.w.plain {
			p.rank, p.arrival = old.rank, old.arrival
			q.remove(old)
			return
		}
	}
}

// keepRank keeps the rank of a plain client that is refused while others wait.
func (e *Engine) keepRank(q *queue, w *Waiter) {
	p := w.places[0]
	if w.plain == (plainKey{}) || q.waiting == 0 || p.queue != q {
		return
	}
	q.insert(&place{
		rank: p.rank, arrival: p.arrival, plain: w.plain, until: time.Now().Add(plainRank), ahead: -1,
	})
}

// reserve reserves a name for a plain client whose turn has come, and loses its rank.
func (e *Engine) reserve(q *queue, p *place) {
	q.remove(p)
	q.reserved = p
	if q.last != nil {
		e.publish(store.EventDeleted, q.last)
	}
	e.after(plainTurn, func() {
		if q.reserved == p {
			q.reserved, q.lapsed = nil, true
			e.offer(q)
			e.tidy(q)
		}
	})
}

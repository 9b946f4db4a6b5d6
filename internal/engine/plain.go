package engine

import (
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	plainRank = 5 * time.Minute        // for which a plain client keeps its rank between two tries
	plainTurn = 600 * time.Millisecond // for which a name stays free for it at its turn
)

func plainOf(w *Waiter) plainKey {
	key := plainKey{owner: w.New.Owner, ip: w.New.IP}
	if w.New.Creator != nil {
		key.creator = w.creator()
	}
	return key
}

// takeRank gives the place of a plain client the rank that it has kept, and ends a reservation for
// it.
func (e *Engine) takeRank(q *queue, p *place) {
	if q.reserved != nil && q.reserved.plain == p.w.plain {
		p.rank, p.arrival = q.reserved.rank, q.reserved.arrival
		q.reserved = nil
		return
	}
	if old := q.ranks[p.w.plain]; old != nil {
		p.rank, p.arrival = old.rank, old.arrival
		e.dropRank(old)
	}
}

// keepRank keeps the rank of a plain client that is refused while others wait.
func (e *Engine) keepRank(q *queue, w *Waiter) {
	old := w.places[0]
	switch {
	case w.plain == (plainKey{}) || old.queue != q || q.waiting == 0:
		return
	case q.ranks[w.plain] != nil || e.ranks >= e.MaxWaiters:
		return
	}
	p := &place{rank: old.rank, arrival: old.arrival, plain: w.plain, ahead: -1}
	q.insert(p)
	if q.ranks == nil {
		q.ranks = make(map[plainKey]*place)
	}
	q.ranks[p.plain] = p
	e.ranks++
	e.after(plainRank, func() {
		if p.at != nil {
			e.dropRank(p)
			e.changed(q)
			e.tidy(q)
		}
	})
}

// dropRank removes a place that was made by keepRank.
func (e *Engine) dropRank(p *place) {
	p.queue.remove(p)
	delete(p.queue.ranks, p.plain)
	e.ranks--
}

// reserve reserves a name for a plain client whose turn has come, and loses its rank.
func (e *Engine) reserve(q *queue, p *place) {
	e.dropRank(p)
	q.reserved = p
	if q.last != nil {
		e.publish(store.EventDeleted, q.last)
	}
	e.after(plainTurn, func() {
		if q.reserved == p {
			q.reserved, q.lapsed = nil, true
			e.offerSoon(q)
			e.tidy(q)
		}
	})
}

package engine

import (
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	progressPause = time.Second // between two reports to all of one queue
	nearHead      = 10          // beyond that, only places that have halved are reported
)

// progress tells a waiter how many are served before it, if that is news.
func (e *Engine) progress(p *place) {
	if !p.w.Progress {
		return
	}
	ahead := 0
	for other := range p.queue.all() {
		if other == p {
			break
		}
		ahead++
	}
	e.report(p, ahead)
}

// changed tells the waiters of a queue of its change, now or soon.
func (e *Engine) changed(q *queue) {
	if q.asking == 0 || q.telling || q.busy {
		return
	}
	if pause := progressPause - time.Since(q.told); pause > 0 {
		q.telling = true
		e.after(pause, func() { e.reportAll(q) })
		return
	}
	e.reportAll(q)
}

func (e *Engine) reportAll(q *queue) {
	q.telling = false
	if q.busy {
		return // its end reports
	}
	q.told = time.Now()
	ahead := 0
	for p := range q.all() {
		if p.w != nil && p.w.Progress {
			e.report(p, ahead)
		}
		ahead++
	}
}

func (e *Engine) report(p *place, ahead int) {
	var holder *store.Lock
	id := ""
	if h := p.queue.holder; h != nil && h.ID != "" {
		holder, id = h, h.ID
	}
	ahead += e.aheadElsewhere(p)
	near := ahead < nearHead || ahead <= p.ahead/2
	if p.ahead >= 0 && p.holderID == id && (p.ahead == ahead || !near) {
		return
	}
	p.ahead, p.holderID = ahead, id
	if s := e.sink(p.w); s != nil {
		e.tell(s).Waiting(p.w, ahead, holder)
	}
}

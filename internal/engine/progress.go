package engine

import (
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	progressPause = time.Second // at least, between two reports to a waiter, or to all of a queue
	nearHead      = 10          // beyond that, only places that have halved are reported
)

// progress tells a waiter how many are served before it, if that has changed.
func (e *Engine) progress(p *place) {
	if p.w.Progress && e.report(p, p.queue.ahead(p), time.Since(e.started)) > 0 {
		e.changed(p.queue)
	}
}

// follow has a waiter told its place from now on, if that is wanted.
func (e *Engine) follow(w *Waiter, wanted bool) {
	if w.Progress || !wanted {
		return
	}
	w.Progress = true
	for _, p := range w.places {
		if p.at == nil {
			continue
		}
		p.queue.asking++
		if !p.queue.busy { // else the end of the call reports
			e.progress(p)
		}
	}
}

// changed tells the waiters of a queue of its change, now, when all of it is decided, or soon.
func (e *Engine) changed(q *queue) {
	if q.asking > 0 && !q.telling {
		q.telling = true
		e.after(q.told+progressPause-time.Since(e.started), func() { e.reportAll(q) })
	}
}

// reportAll reports to all waiters of a queue that have not heard for long enough, and to the
// others later.
func (e *Engine) reportAll(q *queue) {
	q.telling = false
	if q.busy {
		return // the end of the call reports
	}
	now := time.Since(e.started)
	q.told = now
	ahead, wait := 0, time.Duration(0)
	for p := range q.all() {
		if p.w != nil && p.w.Progress {
			wait = max(wait, e.report(p, ahead, now))
		}
		ahead++
	}
	if wait > 0 {
		e.changed(q)
	}
}

// report tells a waiter its place, if that has changed. If it is too early for that, it returns how
// long to wait.
func (e *Engine) report(p *place, ahead int, now time.Duration) time.Duration {
	var holder *store.Lock
	id := ""
	if h := p.queue.holder; h != nil && h.ID != "" {
		holder, id = h, h.ID
	}
	ahead += e.aheadElsewhere(p)
	if p.ahead >= 0 {
		near := ahead < nearHead || ahead <= p.ahead/2
		if p.holderID == id && (p.ahead == ahead || !near) {
			return 0
		}
		if left := p.told + progressPause - now; left > 0 {
			return left
		}
	}
	p.ahead, p.holderID, p.told = ahead, id, now
	if s := e.sink(p.w); s != nil {
		e.tell(s).Waiting(p.w, ahead, holder)
	}
	return 0
}

// aheadElsewhere returns how many on other servers come before a place.
func (e *Engine) aheadElsewhere(p *place) int {
	if e.board == nil {
		return 0
	}
	n, _ := slices.BinarySearch(e.board.elsewhere[p.queue.name], p.rank)
	return n
}

package engine

// unlink removes a waiter from all queues.
func (e *Engine) unlink(w *Waiter) {
	for _, p := range w.places {
		if p.at != nil {
			e.leave(p)
		}
	}
}

// leave removes a place that is in its queue.
func (e *Engine) leave(p *place) {
	q := p.queue
	q.remove(p)
	if q.reserved == p {
		q.reserved = nil
	}
	if p.w != nil && p.w.All {
		q.endRound()
		if q.holder == nil && !q.busy {
			e.offerSoon(q) // which was free, and kept from the others
		}
	}
	e.recounted(q)
	e.changed(q)
	e.tidy(q)
}

// placed records that all names of a waiter were offered, unless one is being offered: it has to
// wait then, and the holders are told.
func (e *Engine) placed(w *Waiter) {
	if !w.placing || !w.idle() || w.ended {
		return
	}
	w.placing = false
	for _, p := range w.places {
		if p.at != nil {
			e.recounted(p.queue)
		}
	}
}

// recount counts the places of a waiter that becomes another kind, before (-1) and after (1).
func (e *Engine) recount(w *Waiter, n int) {
	for _, p := range w.places {
		if p.at != nil {
			p.queue.count(p, n)
			e.recounted(p.queue)
		}
	}
}

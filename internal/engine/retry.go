package engine

// unavailable handles an offer that failed as the store is unavailable. All names of the waiter are
// offered again: meanwhile it was passed over.
func (e *Engine) unavailable(q *queue, w *Waiter, err error) {
	if unknownOutcome(err) {
		e.sweeper.within(maxSweepPause) // there may be a lock that nobody knows of
	}
	switch {
	case !w.ended:
		e.storeFailed(w, err)
	case unknownOutcome(err):
		w.unready = true
		if w.undo && w.done == nil && e.marks[w.key] == nil {
			e.undoMark(w.key)
		}
	}
	e.offerLater(q, err)
	for _, p := range w.places {
		if p.at != nil {
			e.retryLater(p.queue)
		}
	}
}

// offerLater offers a name again soon, and refuses those who do not wait.
func (e *Engine) offerLater(q *queue, err error) {
	e.retryLater(q)
	e.refuseImpatient(q, err)
}

// refuseImpatient refuses those who do not wait with an error of the store.
func (e *Engine) refuseImpatient(q *queue, err error) {
	for _, w := range q.impatient() {
		e.refuse(w, err, nil)
	}
}

// retryLater offers the name again soon: the store is unavailable. There is no pause if something
// happened during the call that failed; the store may have recovered.
func (e *Engine) retryLater(q *queue) {
	if q.retrying || q.busy && q.again {
		return
	}
	q.retrying = true
	e.after(retryPause, func() {
		q.retrying = false
		e.offerSoon(q)
		e.tidy(q)
	})
}

// storeFailed handles an error of the store that is not about the name. A waiter whose error will
// pass keeps its place.
func (e *Engine) storeFailed(w *Waiter, err error) {
	if unknownOutcome(err) {
		w.unready, w.pure = true, false
	}
	if isUnavailable(err) && w.Wait {
		w.queued = true
		return
	}
	e.refuse(w, err, nil)
}

package engine

import (
	"cmp"
	"context"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	createdTTL = 10 * time.Minute // of a lock whose name was free
	grantedTTL = time.Minute      // of one granted from a queue, whose client may be gone unseen
)

// first returns the first waiter of a queue that can have its name now, or the plain client whose
// turn it is, or neither. Unless the name is free it is the turn of no plain client. A waiter for
// all of several names comes after the others when a reservation has lapsed, until one of them had
// the name, and when its own has, until all have had one.
func (e *Engine) first(q *queue, free bool) (w *Waiter, plain *place) {
	now := time.Now()
	var next, passed *Waiter
	for p := range q.all() {
		switch {
		case p.w != nil && !e.servable(p.w, now):
		case p.w != nil && p.w.All && p.passed == q.round:
			passed = cmp.Or(passed, p.w)
		case p.w != nil && p.w.All && q.turn:
			next = cmp.Or(next, p.w)
		case p.w != nil:
			return p.w, nil
		case free && !q.lapsed:
			return nil, p
		default:
			plain = cmp.Or(plain, p)
		}
	}
	if w = cmp.Or(next, passed); w != nil {
		plain = nil
	}
	return w, plain
}

// servable reports whether a waiter can be granted a lock now.
func (e *Engine) servable(w *Waiter, now time.Time) bool {
	switch {
	case !w.idle():
		return false
	case w.Conn == nil:
		return true
	case w.Conn.closed:
		return w.Conn.leaving
	case !w.Conn.silent(now.Sub(e.started), w.New.TTL):
		return true
	}
	w.Conn.passed.Store(true) // before the second look, so that Heard does not miss it
	return !w.Conn.silent(now.Sub(e.started), w.New.TTL)
}

// missing returns the place of a waiter for all of several names in the queue of a name that it
// cannot have now, or nil. It can have that of q.
func (e *Engine) missing(w *Waiter, q *queue) *place {
	for _, p := range w.places {
		if p.queue != q && !e.available(p) {
			return p
		}
	}
	return nil
}

// passedOver returns a waiter that comes before w in the queue, and whose turn it is not, as its
// reservation has lapsed, but that can have all of its names now; or nil. Without it, waiters whose
// turns come at different times in each queue could keep free names from each other forever.
func (e *Engine) passedOver(q *queue, w *Waiter) *Waiter {
	now := time.Now()
	for p := range q.all() {
		if p.w == w {
			return nil
		}
		if p.w != nil && p.w.All && e.servable(p.w, now) && e.missing(p.w, nil) == nil {
			return p.w
		}
	}
	return nil
}

// available reports whether a waiter for all of several names could have the name of its place:
// it is free, and no other comes first. One that comes later in the queue, and for which the name
// is kept, does not count.
func (e *Engine) available(p *place) bool {
	q := p.queue
	if q.busy || q.retrying || q.holder != nil || time.Now().Before(q.holdOff) ||
		q.reserved != nil && q.reserved.w == nil {
		return false
	}
	first, plain := e.first(q, true)
	return plain == nil && (first == p.w ||
		first != nil && first.All && comparePlaces(p, first.placeIn(q)) < 0)
}

// begin begins a try for the first waiter of a queue.
func (e *Engine) begin(q *queue, w *Waiter) *try {
	q.busy, q.again, q.tried = true, false, time.Now()
	w.calling = q
	t := &try{in: w.New, w: w, unready: w.unready}
	if w.Conn != nil {
		t.seen = w.Conn.seen.Load()
	}
	t.in.ID, t.in.Name = e.NewID(), q.name
	e.isFresh(t.in.ID) // now: its end may become known before its creation
	waited := e.waited(w)
	if w.Wait {
		t.in.Waited = waited + time.Duration(w.Priority)*perPriority
	}
	t.in.Queued = max(waited, 0).Truncate(time.Millisecond)
	if !t.in.Leased {
		t.in.TTL = createdTTL
		if w.queued && w.Wait {
			t.in.TTL = grantedTTL
		}
	}
	if w.MaxHold > 0 {
		t.in.TTL = min(t.in.TTL, w.MaxHold)
	}
	w.tried = true
	return t
}

// try is a store call for a waiter, and its result.
type try struct {
	in      store.NewLock
	w       *Waiter
	unready bool
	seen    uint64

	claimed uint64
	locks   []store.Lock // of the mark, as the claim found them
	lock    store.Lock   // what was created, or the holder
	err     error

	all     []store.NewLock // for all of several names, instead of in
	created []store.Lock    // what was created for them, or the holders
}

// found returns the lock of the mark that the waiter can have, or nil.
func (t *try) found(w *Waiter) *store.Lock {
	for i := range t.locks {
		if w.mayHave(t.locks[i].Name) {
			return &t.locks[i]
		}
	}
	return nil
}

// claim claims the mark of a waiter. Over HTTP one mark may have been used for several names: the
// locks of the others do not count.
func (t *try) claim(e *Engine, w *Waiter) {
	t.err = e.guarded(func() (err error) {
		t.claimed, t.locks, err = e.store.Claim(context.Background(), w.key.owner, w.key.mark)
		return err
	})
	if w.Conn == nil {
		t.locks = slices.DeleteFunc(t.locks, func(l store.Lock) bool { return !w.mayHave(l.Name) })
	}
}

// ready claims the mark if that is necessary, and reports whether a create should follow.
func (t *try) ready(e *Engine) bool {
	if !t.unready {
		return true
	}
	t.claim(e, t.w)
	t.in.Claim = t.claimed
	return t.err == nil && len(t.locks) == 0
}

// create makes the store call of an offer.
func (t *try) create(e *Engine) {
	if !t.ready(e) {
		return
	}
	t.err = e.guarded(func() (err error) {
		t.lock, err = e.store.Create(context.Background(), t.in)
		return err
	})
}

// createAll makes the store call for all of several names.
func (t *try) createAll(e *Engine) {
	if !t.ready(e) {
		return
	}
	for i := range t.all {
		t.all[i].Claim = t.in.Claim
	}
	t.err = e.guarded(func() (err error) {
		t.created, err = e.store.CreateAll(context.Background(), t.all)
		return err
	})
}

// onlyLiving drops the locks of a mark that are known to be gone.
func (e *Engine) onlyLiving(t *try) {
	t.locks = slices.DeleteFunc(t.locks, func(lock store.Lock) bool {
		q := e.queues[lock.Name]
		return q != nil && q.dead(&lock)
	})
}

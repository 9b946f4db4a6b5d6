package engine

import (
	"context"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	boardPause = time.Second     // between two looks at the waiters here, and elsewhere
	boardAlive = 4 * time.Second // at most, between two publications
)

// Waiting returns all that wait, on all servers, in the order in which they will be served. Those
// of other servers are as they were up to 2 s ago.
func (e *Engine) Waiting(ctx context.Context) ([]store.Waiter, error) {
	e.mu.Lock()
	waiters := e.waitingHere()
	e.mu.Unlock()
	if e.board != nil {
		others, err := e.board.store.Published(ctx)
		if err != nil {
			return nil, err
		}
		waiters = append(waiters, others...)
	}
	slices.SortStableFunc(waiters, func(a, b store.Waiter) int { return a.Rank.Compare(b.Rank) })
	return waiters, nil
}

// Waiters returns how many wait for each name for which any do, on all servers.
func (e *Engine) Waiters(ctx context.Context) (map[string]int, error) {
	waiters, err := e.Waiting(ctx)
	byName := make(map[string]int)
	for i := range waiters {
		for _, name := range waiters[i].Names {
			byName[name]++
		}
	}
	return byName, err
}

// followBoard publishes the waiters here, and looks at those elsewhere, until the engine stops.
func (e *Engine) followBoard() {
	tick := time.NewTicker(boardPause)
	defer tick.Stop()
	for {
		select {
		case <-e.stopped.Done():
			return
		case <-tick.C:
		}
		err := e.guarded(e.lookAtBoard)
		if err != nil {
			e.Log.Debug("cannot share the list of waiters with other servers", "error", err)
		}
	}
}

func (e *Engine) lookAtBoard() error {
	b := e.board
	e.mu.Lock()
	asking := len(e.holding) > 0 // and want to know who waits
	for _, q := range e.queues {
		asking = asking || q.asking > 0
	}
	var waiters []store.Waiter
	due := b.changed || len(e.queues) > 0 && time.Since(b.published) > boardAlive
	if due {
		waiters = e.waitingHere()
		b.changed = false
	}
	e.mu.Unlock()
	if due {
		b.published = time.Now()
		if err := b.store.Publish(e.stopped, waiters); err != nil {
			e.do(func() { b.changed = true })
			return err
		}
	}
	if !asking {
		return nil
	}
	others, err := b.store.Published(e.stopped)
	if err != nil {
		return err
	}
	elsewhere := make(map[string][]time.Duration)
	for i := range others {
		for _, name := range others[i].Names {
			elsewhere[name] = append(elsewhere[name], others[i].Rank.Sub(e.started))
		}
	}
	for _, ranks := range elsewhere {
		slices.Sort(ranks)
	}
	e.do(func() {
		before := len(b.elsewhere)
		b.elsewhere = elsewhere
		if before+len(elsewhere) > 0 {
			e.recountedElsewhere()
		}
		for _, q := range e.queues {
			e.changed(q)
		}
	})
	return nil
}

// Stats returns what is here now, but for the connections, whose front ends know them.
func (e *Engine) Stats(ctx context.Context) (observe.Stats, error) {
	s := observe.Stats{Waiting: make(map[string]int)}
	e.mu.Lock()
	now := time.Since(e.started)
	first := now
	for name, q := range e.queues {
		for p := range q.all() {
			if p.w == nil || !p.w.patient() || !p.w.queued {
				continue
			}
			s.Waiting[name]++
			if p.w.places[0] == p {
				s.Waiters++
				first = min(first, now-e.waited(p.w))
			}
		}
	}
	e.mu.Unlock()
	s.Oldest = now - first
	err := e.guarded(func() (err error) {
		s.Locks, err = e.store.List(ctx)
		return err
	})
	return s, err
}

// waitingHere returns those that wait on this server. The caller holds the mutex.
func (e *Engine) waitingHere() []store.Waiter {
	var places []*place
	for _, q := range e.queues {
		for p := range q.all() {
			if p.w != nil && p.w.Wait && p.w.queued && p.w.places[0] == p {
				places = append(places, p)
			}
		}
	}
	slices.SortFunc(places, comparePlaces)
	waiters := make([]store.Waiter, len(places))
	for i, p := range places {
		w := p.w
		waiters[i] = store.Waiter{
			Names: w.Names, IP: w.New.IP, Owner: w.New.Owner, Priority: w.Priority,
			Since: lockset.Now(w.arrived.Add(-w.Waited)), Rank: lockset.Now(e.started.Add(p.rank)),
		}
		if w.New.Creator != nil {
			creator := w.creator()
			waiters[i].Creator = &creator
		}
	}
	return waiters
}

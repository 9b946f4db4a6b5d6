package modelcheck_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

var errEnough = errors.New("the caller has had enough")

// begins starts what one client does.
func (w *world) begins(calls *sync.WaitGroup, client int) {
	p := &w.plan.clients[client]
	if p.closeAt > 0 {
		calls.Go(func() {
			time.Sleep(p.closeAt)
			w.close(client, p.patience)
		})
	}
	for i, mp := range p.mutexes {
		opts := []relukko.Option{
			relukko.WithTTL(mp.ttl),
			relukko.WithCreator(fmt.Sprintf("c%d/m%d", client, i)),
			relukko.WithOnLost(w.lost),
		}
		if mp.handoff {
			opts = append(opts, relukko.WithHandoff())
		}
		m := mp.locker(w.clients[client], opts)
		for j, its := range mp.callers {
			c := &caller{world: w, client: client, mutex: m, plan: &mp,
				who: fmt.Sprintf("c%d/m%d/g%d", client, i, j)}
			calls.Go(func() {
				for k := range its {
					c.carryOut(&its[k])
				}
			})
		}
	}
	for i, its := range p.raw {
		c := &rawCaller{world: w, client: client, who: fmt.Sprintf("c%d/raw%d", client, i)}
		calls.Go(func() {
			for k := range its {
				c.carryOut(&its[k], fmt.Sprintf("%s/%d", c.who, k))
			}
		})
	}
}

// lost is WithOnLost's function.
func (w *world) lost(lost *relukko.LostError) {
	w.note("on lost", "%v", lost)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[lost.ID]++
}

// caller is a goroutine that locks and unlocks.
type caller struct {
	*world
	client int
	mutex  locker
	plan   *mutexPlan
	who    string
}

func (c *caller) carryOut(call *mutexCall) {
	time.Sleep(call.pause)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	began := time.Now()
	t := &try{who: c.who, client: c.client, mutex: c.mutex, choice: c.plan.choice,
		names: c.plan.names, try: call.try, limit: call.limit, ret: never, ctxEnd: never}
	switch {
	case call.limit > 0 && call.deadline:
		limited, stop := context.WithDeadline(ctx, began.Add(call.limit))
		defer stop()
		ctx = limited
	case call.limit > 0:
		defer time.AfterFunc(call.limit, func() { cancel(errEnough) }).Stop()
	}
	defer context.AfterFunc(ctx, func() {
		m := c.note(c.who, "its context ends")
		c.mu.Lock()
		t.ctxEnd = m
		c.mu.Unlock()
	})()
	what, lock := "Lock", c.mutex.Lock
	if call.try {
		what, lock = "TryLock", c.mutex.TryLock
	}
	t.call = c.note(c.who, "%s %v (its context ends in %v)", what, c.plan, call.limit)
	c.mu.Lock()
	c.tries = append(c.tries, t)
	c.mu.Unlock()
	held, err := lock(ctx)
	if err != nil {
		c.failed(t, ctx, held, err, what)
		return
	}
	sessions := c.begin(t, ctx, held, what)
	c.stay(call, sessions, held)
	c.unlock(call, sessions, held)
}

// failed records a Lock that failed.
func (c *caller) failed(t *try, ctx, held context.Context, err error, what string) {
	m := c.note(c.who, "%s: %v", what, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	t.ret, t.err = m, err
	if held.Err() == nil || context.Cause(held) != err {
		c.wrong("%s: %s returned a context whose end is %v", c.who, what, context.Cause(held))
	}
	if ctx.Err() != nil && time.Since(c.start) == m.at && t.ctxEnd == never {
		t.ctxEnd = m // the goroutine that records it has not run yet
	}
}

// begin records a Lock that succeeded. It returns a session for each lock that it has acquired.
func (c *caller) begin(t *try, parent, held context.Context, what string) (sessions []*session) {
	inside, ok := relukko.FromContext(held)
	all := &tenure{live: func() bool { return inside.CleanupContext().Err() == nil },
		parentEnd: never, guardedEnd: never, end: never, unlock: never, unlocked: never}
	for _, lock := range inside.Locks() {
		s := &session{
			tenure: all,
			who:    c.who, client: c.client, mutex: c.mutex, choice: c.plan.choice, name: lock.Name,
			id: lock.ID, mark: markOf(lock.Creator), ttl: c.plan.ttl, token: lock.FencingToken,
			call: t.call, shared: c.plan.handoff,
		}
		s.begin = c.note(c.who, "%s: lock %s of %s #%s, token %d", what, brief(s.id), s.name,
			s.mark, s.token)
		sessions = append(sessions, s)
	}
	c.enter(sessions...)
	c.ask(sessions, inside)
	c.mu.Lock()
	t.ret, t.session = sessions[0].begin, sessions[0]
	if !ok || !c.plan.fits(sessions) ||
		c.plan.choice == anyOf && inside.Name() != sessions[0].name {
		c.wrong("%s: %s of %v returned a session of %q", c.who, what, c.plan, inside.Name())
	}
	c.mu.Unlock()

	ends := func(ctx context.Context, what string, end *moment, cause *error) {
		context.AfterFunc(ctx, func() {
			m := c.note(c.who, "%s of lock %s ends: %v", what, brief(sessions[0].id),
				context.Cause(ctx))
			c.mu.Lock()
			defer c.mu.Unlock()
			*end, *cause = m, context.Cause(ctx)
		})
	}
	ends(parent, "parent", &all.parentEnd, &all.parentCause)
	ends(inside.CleanupContext(), "session", &all.end, &all.cause)
	ends(held, "context", &all.guardedEnd, &all.guardedCause)
	return sessions
}

// enter compares sessions that begin with those that are live.
func (w *world) enter(sessions ...*session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sessions {
		for _, other := range w.sessions {
			if other.name == s.name && other.live() {
				w.overlaps = append(w.overlaps, overlap{other, s, w.now()})
			}
		}
	}
	w.sessions = append(w.sessions, sessions...)
}

// ask notes what the session says of its lease.
func (c *caller) ask(sessions []*session, inside *relukko.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The record stands still: a renewal cannot be carried out meanwhile.
	end, err := inside.LeaseEnd(), inside.Err()
	if err == nil {
		all := sessions[0].tenure
		all.deadlines = append(all.deadlines, deadline{c.now(), end.Sub(c.start)})
	}
}

// stay is the critical section.
func (c *caller) stay(call *mutexCall, sessions []*session, held context.Context) {
	inside, _ := relukko.FromContext(held)
	timer := time.NewTimer(call.hold)
	defer timer.Stop()
	over := inside.Done()
	if call.stay {
		over = nil
	}
	select {
	case <-timer.C:
	case <-over:
	}
	c.ask(sessions, inside)
}

func (c *caller) unlock(call *mutexCall, sessions []*session, held context.Context) {
	ctx := held
	if call.bare && c.plan.choice != anyOf {
		ctx = context.Background()
	}
	inside, _ := relukko.FromContext(held)
	all := sessions[0].tenure
	u := c.note(c.who, "Unlock %v, lock %s", c.plan, brief(sessions[0].id))
	c.mu.Lock()
	all.unlock = u
	c.mu.Unlock()
	err := c.mutex.Unlock(ctx)
	u = c.note(c.who, "Unlock, lock %s: %v", brief(sessions[0].id), err)
	c.mu.Lock()
	all.unlocked = u
	for _, s := range sessions {
		s.err = s.own(err)
	}
	if held.Err() == nil || inside.Err() == nil {
		c.wrong("%s: after Unlock the context is not done", c.who)
	}
	c.mu.Unlock()
	if call.twice {
		if err := c.mutex.Unlock(held); !errors.Is(err, relukko.ErrNotLocked) {
			c.note(c.who, "a second Unlock: %v", err)
			c.mu.Lock()
			c.wrong("%s: a second Unlock returned %v", c.who, err)
			c.mu.Unlock()
		}
	}
}

// rawCaller is a goroutine that uses the API itself, as other clients do.
type rawCaller struct {
	*world
	client int
	who    string
}

// For a call, so that what is taken is released within the first lease.
const rawPatience = 20 * time.Second

func (c *rawCaller) carryOut(call *rawCall, creator string) {
	time.Sleep(call.pause)
	a := c.clients[c.client]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	sent := c.note(c.who, "Create %s", call.name)
	l, err := a.Create(ctx, call.name, creator, api.Wait(call.wait))
	if err != nil {
		c.note(c.who, "Create: %v", err)
		if !api.NoEffect(err) {
			c.tidy(ctx, a, creator)
		}
		return
	}
	var over, leaving = make(chan struct{}), false
	s := &session{
		tenure: &tenure{parentEnd: never, guardedEnd: never, end: never, unlock: never,
			unlocked: never},
		who: c.who, client: c.client, raw: true, mutex: c, name: call.name, id: l.ID,
		token: l.FencingToken, call: sent,
	}
	s.live = func() bool { return !leaving } // under the record's mutex
	s.begin = c.note(c.who, "Create: lock %s, token %d", brief(l.ID), l.FencingToken)
	c.enter(s)
	lapse := time.AfterFunc(l.ExpiresAt.Sub(l.CreatedAt)-time.Since(c.start)+sent.at, func() {
		c.mu.Lock()
		leaving = true // it is not renewed any more
		c.mu.Unlock()
		close(over)
	})
	if call.look {
		a.Get(ctx, l.ID)
		a.List(ctx)
	}
	select {
	case <-time.After(call.hold):
	case <-over:
	}
	if lapse.Stop() && call.renew > 0 {
		limited, stop := context.WithTimeout(ctx, rawPatience)
		a.KeepAlive(limited, l.ID, call.renew)
		stop()
	}
	u := c.note(c.who, "Delete %s, lock %s", call.name, brief(l.ID))
	c.mu.Lock()
	leaving, s.unlock = true, u
	c.mu.Unlock()
	_, err = a.Delete(ctx, l.ID)
	c.note(c.who, "Delete, lock %s: %v", brief(l.ID), err)
}

// tidy deletes what a create has made whose answer was lost.
func (c *rawCaller) tidy(ctx context.Context, a *api.Client, creator string) {
	locks, _ := a.List(ctx)
	for _, l := range locks {
		if l.Creator == creator {
			a.Delete(ctx, l.ID)
		}
	}
}

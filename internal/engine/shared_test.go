package engine

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// dice are safe for concurrent use.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed uint64) *dice { return &dice{r: rand.New(rand.NewPCG(seed, 0))} }

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// one reports whether one of n has happened.
func (d *dice) one(n int) bool { return d.n(n) == 0 }

func (d *dice) upTo(t time.Duration) time.Duration {
	return time.Duration(d.n(int(t/time.Millisecond)+1)) * time.Millisecond
}

// sharedStores is a store that several servers share, each through a view of its own. Its calls can
// take their time; they fail before or after they have their effect, or have it late.
type sharedStores struct {
	*dice
	slow    bool
	faulty  atomic.Bool
	created func(store.NewLock) // is told of each create that had its effect
	trace   func(store.Event)

	effects sync.Mutex
	base    *memstore.Store
	views   []*view
}

// view is one server's view of a shared store.
type view struct {
	*sharedStores
	events chan store.Event
}

// memoryView is one whose calls never wait.
type memoryView struct{ *view }

func (memoryView) InMemory() {}

func (s *sharedStores) view() *view {
	v := &view{sharedStores: s, events: make(chan store.Event, 10_000)}
	s.views = append(s.views, v)
	return v
}

// call makes a call. If it returns an error, the effect may come nevertheless, now or later.
func (v *view) call(canBeLate bool, effect func() []store.Event) error {
	v.takeTime()
	defer v.takeTime()
	fault := 0 // none
	if v.faulty.Load() {
		fault = v.n(12)
	}
	switch {
	case fault == 1:
		return errNotDone
	case fault == 2:
		return errDown
	case fault == 3:
		v.have(effect)
		v.events <- store.Event{Kind: store.EventMissed}
		return errDown
	case fault == 4 && canBeLate:
		late := v.upTo(8 * time.Second)
		go func() {
			time.Sleep(late)
			v.have(effect)
			v.events <- store.Event{Kind: store.EventMissed}
		}()
		return errDown
	}
	v.have(effect)
	return nil
}

func (v *view) takeTime() {
	switch {
	case !v.slow:
	case v.one(20):
		time.Sleep(v.upTo(3 * time.Second))
	default:
		time.Sleep(v.upTo(20 * time.Millisecond))
	}
}

// have carries an effect out, and tells the other servers.
func (v *view) have(effect func() []store.Event) {
	v.effects.Lock()
	defer v.effects.Unlock()
	for _, event := range effect() {
		v.trace(event)
		for _, other := range v.views {
			if other != v {
				other.events <- event
			}
		}
	}
}

func event(kind store.EventKind, lock store.Lock, err error) []store.Event {
	if err != nil {
		return nil
	}
	return []store.Event{{Kind: kind, Lock: lock}}
}

func (v *view) noteCreate(in store.NewLock, err error) {
	if err == nil {
		v.created(in)
	}
}

func (v *view) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	var lock store.Lock
	var err error
	failed := v.call(true, func() []store.Event {
		lock, err = v.base.Create(ctx, in)
		v.noteCreate(in, err)
		return event(store.EventCreated, lock, err)
	})
	if failed != nil {
		return store.Lock{}, failed
	}
	return lock, err
}

func (v *view) CreateAll(ctx context.Context, in []store.NewLock) ([]store.Lock, error) {
	var locks []store.Lock
	var err error
	failed := v.call(true, func() (events []store.Event) {
		locks, err = v.base.CreateAll(ctx, in)
		v.noteCreate(in[0], err)
		if err != nil {
			return nil
		}
		for _, lock := range locks {
			events = append(events, store.Event{Kind: store.EventCreated, Lock: lock})
		}
		return events
	})
	if failed != nil {
		return nil, failed
	}
	return locks, err
}

func (v *view) HandOver(
	ctx context.Context, id string, end store.Ending, next store.NewLock,
) (store.Handover, error) {
	var both store.Handover
	failed := v.call(true, func() []store.Event {
		both, _ = v.base.HandOver(ctx, id, end, next)
		v.noteCreate(next, both.CreateErr)
		return append(event(store.EventDeleted, both.Deleted, both.DeleteErr),
			event(store.EventCreated, both.Created, both.CreateErr)...)
	})
	if failed != nil {
		return store.Handover{}, failed
	}
	return both, nil
}

func (v *view) KeepHistory(limits store.HistoryLimits) { v.base.KeepHistory(limits) }

func (v *view) History(ctx context.Context, q store.HistoryQuery) ([]store.Ended, error) {
	return v.base.History(ctx, q)
}

func (v *view) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	var lock store.Lock
	var err error
	failed := v.call(true, func() []store.Event {
		lock, err = v.base.Delete(ctx, id, end)
		return event(store.EventDeleted, lock, err)
	})
	if failed != nil {
		return store.Lock{}, failed
	}
	return lock, err
}

func (v *view) Update(ctx context.Context, id string, c store.Change) (store.Lock, error) {
	var lock store.Lock
	var err error
	failed := v.call(true, func() []store.Event {
		lock, err = v.base.Update(ctx, id, c)
		return event(store.EventUpdated, lock, err)
	})
	if failed != nil {
		return store.Lock{}, failed
	}
	return lock, err
}

func (v *view) Claim(ctx context.Context, owner, mark string) (uint64, []store.Lock, error) {
	var claim uint64
	var locks []store.Lock
	var err error
	failed := v.call(false, func() []store.Event {
		claim, locks, err = v.base.Claim(ctx, owner, mark)
		return nil
	})
	if failed != nil {
		return 0, nil, failed
	}
	return claim, locks, err
}

func (v *view) Cancel(ctx context.Context, owner, mark string) ([]store.Lock, error) {
	var locks []store.Lock
	var err error
	failed := v.call(true, func() (events []store.Event) {
		locks, err = v.base.Cancel(ctx, owner, mark)
		for _, lock := range locks {
			events = append(events, store.Event{Kind: store.EventDeleted, Lock: lock})
		}
		return append(events, store.Event{
			Kind: store.EventCancelled, Mark: mark, Lock: store.Lock{Owner: owner},
		})
	})
	if failed != nil {
		return nil, failed
	}
	return locks, err
}

func (v *view) Holder(ctx context.Context, name string) (store.Lock, error) {
	var lock store.Lock
	var err error
	failed := v.call(false, func() []store.Event {
		lock, err = v.base.Holder(ctx, name)
		return nil
	})
	if failed != nil {
		return store.Lock{}, failed
	}
	return lock, err
}

func (v *view) Get(ctx context.Context, id string) (store.Lock, error) {
	return v.base.Get(ctx, id)
}
func (v *view) List(ctx context.Context) ([]store.Lock, error) { return v.base.List(ctx) }
func (v *view) Ping(context.Context) error                     { return nil }

func (v *view) Sweep(ctx context.Context, limits store.Limits) (store.Swept, error) {
	var swept store.Swept
	v.have(func() (events []store.Event) {
		swept, _ = v.base.Sweep(ctx, limits)
		for _, lock := range swept.Locks {
			events = append(events, store.Event{Kind: store.EventDeleted, Lock: lock})
		}
		return events
	})
	return swept, nil
}

func (v *view) Watch(ctx context.Context, hear func(store.Event)) error {
	hear(store.Event{Kind: store.EventMissed})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-v.events:
			if v.slow {
				time.Sleep(v.upTo(20 * time.Millisecond))
			}
			hear(e)
		}
	}
}

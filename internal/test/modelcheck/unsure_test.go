package modelcheck_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// unsure is a store on another machine: while the plan says so its calls take time, and the outcome
// of some is unknown. They take effect nevertheless, or later, or never.
type unsure struct {
	*recorded
	late chan struct{} // a call whose outcome is unknown has taken effect
}

func newUnsure(s *recorded) *unsure { return &unsure{s, make(chan struct{}, 1)} }

// attempt makes a store call.
func attempt[T any](s *unsure, what string, do func() (T, error)) (T, error) {
	w := s.world
	f := w.storeFault()
	if f == nil {
		return do()
	}
	w.late.Add(1)
	defer w.late.Done()
	fate := w.hash(0, what) % 8
	half := f.delay * time.Duration(fate%4) / 6 // before the call, and as long after it
	time.Sleep(half)
	defer time.Sleep(half)
	var none T
	unknown := func(outcome string) error {
		w.note("store", "%s: %s", what, outcome)
		return fmt.Errorf("%s: %w", what, store.ErrUnavailable)
	}
	switch fate {
	case 0:
		return none, fmt.Errorf("%s: %w, %w", what, store.ErrUnavailable, store.ErrNotDone)
	case 1:
		return none, unknown("unknown, never takes effect")
	case 2:
		do()
		s.known()
		return none, unknown("unknown, took effect")
	case 3:
		err := unknown("unknown, takes effect later")
		w.late.Go(func() {
			time.Sleep(f.delay + time.Millisecond)
			if w.isStore(s) {
				do()
				s.known()
			}
		})
		return none, err
	}
	return do()
}

// known has Watch say that a call whose outcome is unknown has taken effect.
func (s *unsure) known() {
	select {
	case s.late <- struct{}{}:
	default: // it has to say so already
	}
}

// storeFault returns the fault of the store, or nil. What the plan itself does has none.
func (w *world) storeFault() *fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := time.Since(w.start)
	for i := range w.plan.faults {
		f := &w.plan.faults[i]
		if f.kind == "store" && w.forcing == "" && at >= f.at && at < f.at+f.for_ {
			return f
		}
	}
	return nil
}

// isStore reports whether s is the store of the backend; a restart may have replaced it.
func (w *world) isStore(s *unsure) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.stores, s.recorded)
}

// Watch implements [store.Store].
func (s *unsure) Watch(ctx context.Context, hear func(store.Event)) error {
	s.world.mu.Lock()
	s.events = nil
	s.world.mu.Unlock()
	hear(store.Event{Kind: store.EventMissed})
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.late:
			hear(store.Event{Kind: store.EventMissed})
		case <-s.bell:
			time.Sleep(s.world.frameLatency(0, "event"))
			s.world.mu.Lock()
			events := s.events
			s.events = nil
			s.world.mu.Unlock()
			for _, e := range events {
				hear(e)
			}
		}
	}
}

// Create implements [store.Store], as the following do.
func (s *unsure) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	l, err := attempt(s, "create "+in.Name+" #"+in.Mark, func() (held, error) {
		l, err := s.recorded.Create(ctx, in)
		return held{l, err}, nil
	})
	if err != nil {
		return store.Lock{}, err
	}
	return l.lock, l.err
}

// held is the result of a create, which has a lock also if it failed.
type held struct {
	lock store.Lock
	err  error
}

// CreateAll implements [store.Store].
func (s *unsure) CreateAll(ctx context.Context, in []store.NewLock) ([]store.Lock, error) {
	type result struct {
		locks []store.Lock
		err   error
	}
	r, err := attempt(s, "create all #"+in[0].Mark, func() (result, error) {
		locks, err := s.recorded.CreateAll(ctx, in)
		return result{locks, err}, nil
	})
	if err != nil {
		return nil, err
	}
	return r.locks, r.err
}

func (s *unsure) Update(ctx context.Context, id string, c store.Change) (store.Lock, error) {
	return attempt(s, "update "+brief(id), func() (store.Lock, error) {
		return s.recorded.Update(ctx, id, c)
	})
}

func (s *unsure) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	return attempt(s, "delete "+brief(id), func() (store.Lock, error) {
		return s.recorded.Delete(ctx, id, end)
	})
}

func (s *unsure) HandOver(ctx context.Context, id string, end store.Ending, next store.NewLock) (
	store.Handover, error) {
	return attempt(s, "hand over "+brief(id), func() (store.Handover, error) {
		return s.recorded.HandOver(ctx, id, end, next)
	})
}

func (s *unsure) Claim(ctx context.Context, owner, mark string) (
	claim uint64, locks []store.Lock, err error) {
	type found struct {
		claim uint64
		locks []store.Lock
	}
	f, err := attempt(s, "claim #"+mark, func() (found, error) {
		claim, locks, err := s.recorded.Claim(ctx, owner, mark)
		return found{claim, locks}, err
	})
	return f.claim, f.locks, err
}

func (s *unsure) Cancel(ctx context.Context, owner, mark string) ([]store.Lock, error) {
	return attempt(s, "cancel #"+mark, func() ([]store.Lock, error) {
		return s.recorded.Cancel(ctx, owner, mark)
	})
}

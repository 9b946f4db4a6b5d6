package boltstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Store is a [store.Store] in a file. Make one with Open.
type Store struct {
	config
	view      view
	committer committer
	disk      *disk
	surprises surprises
	floor     uint64 // all tokens given out from now on are greater
}

var _ store.Store = (*Store)(nil)

// start returns the store that is on the disk.
func start(c config, d *disk, w *state) *Store {
	s := &Store{config: c, disk: d, committer: committer{
		bell:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		started: time.Now(),
	}}
	s.surprises.changed = make(chan struct{})
	s.floor = c.firstToken() // the file may be an old backup
	w.Token = max(w.Token, s.floor)
	s.view.show(w)
	go s.commit(w)
	return s
}

// Close ends the store. Earlier calls are carried out, later ones return [store.ErrUnavailable].
// When Close returns nil, another process can open the file. It waits at most 4 s for the disk,
// then returns an error; the file is closed when the disk responds. Later calls do nothing.
func (s *Store) Close() error {
	c := &s.committer
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if !first {
		return nil
	}
	s.view.close(s.errClosed())
	c.ring()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.ended:
		if c.err != nil {
			return fmt.Errorf("relukko: store %s: %w", s.disk.path, c.err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("relukko: store %s: not closed yet: %w", s.disk.path, errDisk)
	}
}

// clock returns the store's time.
func (s *Store) clock() time.Time { return lockset.Now(s.now()) }

// Create implements [store.Store]. Where the name is held it returns without going to the disk.
func (s *Store) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	if holder, err := s.view.refusal(&in, s.clock); err != nil {
		return holder, err
	}
	return s.submitForLock(ctx, func(w *state) (store.Lock, error) { return w.Create(in, s.clock()) })
}

// Get implements [store.Store]. It does not wait for the disk.
func (s *Store) Get(_ context.Context, id string) (store.Lock, error) { return s.view.get(id) }

// Holder implements [store.Store]. It does not wait for the disk.
func (s *Store) Holder(_ context.Context, name string) (store.Lock, error) {
	return s.view.holder(name)
}

// List implements [store.Store]. It does not wait for the disk.
func (s *Store) List(context.Context) ([]store.Lock, error) { return s.view.list() }

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, id string, change store.Change) (store.Lock, error) {
	if _, err := s.view.get(id); err != nil {
		return store.Lock{}, err
	}
	return s.submitForLock(ctx, func(w *state) (store.Lock, error) {
		return w.Update(id, change, s.clock())
	})
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, id string) (store.Lock, error) {
	if _, err := s.view.get(id); err != nil {
		return store.Lock{}, err
	}
	return s.submitForLock(ctx, func(w *state) (store.Lock, error) { return w.Delete(id) })
}

// submitForLock is submit for a decision that is a lock or an error.
func (s *Store) submitForLock(
	ctx context.Context, do func(*state) (store.Lock, error),
) (store.Lock, error) {
	var lock store.Lock
	var refused error
	if err := s.submit(ctx, func(w *state) { lock, refused = do(w) }); err != nil {
		return store.Lock{}, err
	}
	return lock, refused
}

// HandOver implements [store.Store], in one transaction.
func (s *Store) HandOver(
	ctx context.Context, id string, next store.NewLock,
) (h store.Handover, _ error) {
	if err := s.submit(ctx, func(w *state) { h = w.HandOver(id, next, s.clock()) }); err != nil {
		return store.Handover{}, err
	}
	return h, nil
}

// CallOff implements [store.Store]. It remembers the last 100,000 marks.
func (s *Store) CallOff(
	ctx context.Context, mark string, keep time.Duration,
) (locks []store.Lock, _ error) {
	err := s.submit(ctx, func(w *state) { locks = w.CallOff(mark, keep, s.clock()) })
	if err != nil {
		return nil, err
	}
	return locks, nil
}

// Sweep implements [store.Store]. It goes to the disk only when something is due.
func (s *Store) Sweep(
	ctx context.Context, grace time.Duration,
) (swept []store.Lock, next time.Duration, _ error) {
	err := s.submit(ctx, func(w *state) { swept, next = w.Sweep(grace, s.clock()) })
	if err != nil {
		return nil, 0, err
	}
	return swept, next, nil
}

// Ping implements [store.Store]. After a write that has failed it tries another one.
func (s *Store) Ping(ctx context.Context) error {
	switch err := s.view.open(); {
	case err != nil:
		return err
	case s.committer.failing.Load():
		return s.submit(ctx, (*state).touch)
	case s.committer.stuck():
		return s.unavailable(errors.New("the disk does not respond"))
	}
	if err := s.disk.inPlace(); err != nil {
		return s.unavailable(err)
	}
	return nil
}

// Watch implements [store.Store]. No other server shares the file, but a call that returned
// ErrUnavailable may take effect later; then Watch says EventMissed.
func (s *Store) Watch(ctx context.Context, hear func(store.Event)) error {
	for seen := 0; ; {
		n, changed := s.surprises.look()
		if n != seen {
			seen = n
			hear(store.Event{Kind: store.EventMissed})
			continue
		}
		select {
		case <-changed:
		case <-s.committer.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// surprises counts how often something may have taken effect after its caller was told that the
// outcome is unknown.
type surprises struct {
	mu      sync.Mutex
	n       int
	changed chan struct{} // closed with the next one
}

func (u *surprises) look() (n int, changed <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n, u.changed
}

func (u *surprises) add() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n++
	close(u.changed)
	u.changed = make(chan struct{})
}

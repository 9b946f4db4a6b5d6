package boltstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Store is a [store.Store] in a file. Make one with Open.
type Store struct{ committer }

// String returns the kind of the store.
func (*Store) String() string { return "bolt" }

var _ store.Store = (*Store)(nil)

// Open opens the store in the file at path. Where there is nothing it makes the file (0600) and its
// directory (0700). The store logs to log, at error when the file cannot be written any more and at
// info when it can again; with nil it is silent.
//
// Open returns an error, and leaves the file as it is, when
//   - another process has it open, after waiting for less than a second;
//   - it is not a store, or one of a later version;
//   - it is damaged: every page, lock and mark is checked;
//   - it is empty, for an empty file may be one that has lost its content.
func Open(path string, log *slog.Logger) (*Store, error) {
	return open(path, newConfig(log))
}

func open(path string, c config) (*Store, error) {
	path, err := filepath.Abs(path) // the working directory may change
	if err != nil {
		return nil, fmt.Errorf("relukko: store: %w", err)
	}
	if err := c.checkFile(path); err != nil {
		return nil, err
	}
	d, err := openDisk(path, c.logSize)
	if err != nil {
		return nil, err
	}
	w, err := d.admit()
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	s := &Store{committer{config: c, disk: d}}
	s.start(w)
	return s, nil
}

// Close ends the store. Earlier calls are carried out, later ones return [store.ErrUnavailable].
// When Close returns nil, another process can open the file. It waits at most 4 s for the disk,
// then returns an error; the file is closed when the disk responds. Later calls do nothing.
func (s *Store) Close() error {
	if first, err := s.close(); first && err != nil {
		return fmt.Errorf("relukko: store %s: %w", s.disk.path, err)
	}
	return nil
}

// Create implements [store.Store]. Where the name is held it returns without going to the disk.
func (s *Store) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	if holder, err := s.view.refusal(&in, s.clock); err != nil {
		return holder, err
	}
	return s.submitForLock(ctx, func(w *state) (store.Lock, error) {
		if err := s.full(); err != nil {
			return store.Lock{}, err
		}
		lock, err := w.Create(in, s.clock())
		w.created = w.created || err == nil
		return lock, err
	})
}

// CreateAll implements [store.Store], in one write.
func (s *Store) CreateAll(
	ctx context.Context, in []store.NewLock,
) (locks []store.Lock, _ error) {
	var refused error
	err := s.submit(ctx, func(w *state) {
		if refused = s.full(); refused == nil {
			locks, refused = w.CreateAll(in, s.clock())
			w.created = w.created || refused == nil
		}
	})
	if err != nil {
		return nil, err
	}
	return locks, refused
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
func (s *Store) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	if _, err := s.view.get(id); err != nil {
		return store.Lock{}, err
	}
	return s.submitForLock(ctx, func(w *state) (store.Lock, error) {
		return w.Delete(id, end, s.clock())
	})
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

// HandOver implements [store.Store], in one write.
func (s *Store) HandOver(
	ctx context.Context, id string, end store.Ending, next store.NewLock,
) (h store.Handover, _ error) {
	err := s.submit(ctx, func(w *state) { h = w.HandOver(id, end, next, s.clock()) })
	if err != nil {
		return store.Handover{}, err
	}
	return h, nil
}

// Claim implements [store.Store]. It waits for the calls before it, and costs no sync of its own.
func (s *Store) Claim(
	ctx context.Context, owner, mark string,
) (claim uint64, locks []store.Lock, _ error) {
	var refused error
	err := s.submit(ctx, func(w *state) {
		claim, locks, refused = w.Claim(owner, mark, s.clock())
	})
	if err != nil {
		return 0, nil, err
	}
	return claim, locks, refused
}

// Cancel implements [store.Store].
func (s *Store) Cancel(ctx context.Context, owner, mark string) (locks []store.Lock, _ error) {
	var refused error
	err := s.submit(ctx, func(w *state) { locks, refused = w.Cancel(owner, mark, s.clock()) })
	if err != nil {
		return nil, err
	}
	return locks, refused
}

// Sweep implements [store.Store]. It goes to the disk only when something is due.
func (s *Store) Sweep(ctx context.Context, limits store.Limits) (swept store.Swept, _ error) {
	err := s.submit(ctx, func(w *state) { swept = w.Sweep(limits, s.clock()) })
	if err != nil {
		return store.Swept{}, err
	}
	return swept, nil
}

// Ping implements [store.Store]. After a write that has failed it tries another one.
func (s *Store) Ping(ctx context.Context) error {
	switch err := s.view.open(); {
	case err != nil:
		return err
	case s.failing.Load():
		return s.submit(ctx, (*state).touch)
	case s.stuck():
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
		case <-s.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

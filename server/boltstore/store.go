package boltstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/server"
)

// Store is a server.Store in a file. Make one with Open.
type Store struct {
	config
	view      view
	committer committer
	disk      *disk
	surprises surprises
	floor     uint64 // all tokens that are given out from now on are higher
}

var _ server.HandOverStore = (*Store)(nil)

// Option sets up a Store.
type Option func(*config)

type config struct {
	log  *slog.Logger
	now  func() time.Time
	link func(old, new string) error
}

// WithLogger has the store log to l when its file can't be written any more, at error, and when it can again, at info. By
// default it is silent. Each request that fails says why in its error, too.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.log = l }
}

func start(c config, d *disk, w *state) *Store {
	s := &Store{config: c, disk: d, committer: committer{
		bell:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		started: time.Now(),
	}}
	s.surprises.news = make(chan struct{})
	s.floor = c.firstToken() // the file may be an old backup
	w.token = max(w.token, s.floor)
	s.view.show(w)
	go s.commit(w)
	return s
}

// Close ends the store: what was asked for before is still carried out and answered, later requests are refused with
// ErrUnavailable. When it returns nil, another process can open the file. It waits for a disk that does not
// answer for 4 s, then returns an error; the file is closed when the disk answers. Only the first Close does anything.
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
		return fmt.Errorf("relukko: store %s: not closed yet: the disk has not answered for %v", s.disk.path, patience)
	}
}

// clock answers the time as the store counts it.
func (s *Store) clock() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Create implements server.Store. It refuses without going to the disk when the name is held.
func (s *Store) Create(ctx context.Context, in server.NewLock) (server.Lock, error) {
	if holder, err := s.view.refusal(&in, s.clock); err != nil {
		return holder, err
	}
	var lock server.Lock
	var refused error
	if err := s.submit(ctx, func(w *state) { lock, refused = w.create(in, s.clock()) }); err != nil {
		return server.Lock{}, err
	}
	return lock, refused
}

// Get implements server.Store. It does not wait for the disk.
func (s *Store) Get(_ context.Context, id string) (server.Lock, error) { return s.view.get(id) }

// Holder implements server.Store. It does not wait for the disk.
func (s *Store) Holder(_ context.Context, name string) (server.Lock, error) {
	return s.view.holder(name)
}

// List implements server.Store. It does not wait for the disk.
func (s *Store) List(context.Context) ([]server.Lock, error) { return s.view.list() }

// Update implements server.Store.
func (s *Store) Update(ctx context.Context, id string, change server.Change) (server.Lock, error) {
	if _, err := s.view.get(id); err != nil {
		return server.Lock{}, err
	}
	var lock server.Lock
	var refused error
	if err := s.submit(ctx, func(w *state) { lock, refused = w.update(id, change, s.clock()) }); err != nil {
		return server.Lock{}, err
	}
	return lock, refused
}

// Delete implements server.Store.
func (s *Store) Delete(ctx context.Context, id string) (server.Lock, error) {
	if _, err := s.view.get(id); err != nil {
		return server.Lock{}, err
	}
	var lock server.Lock
	var refused error
	if err := s.submit(ctx, func(w *state) { lock, refused = w.delete(id) }); err != nil {
		return server.Lock{}, err
	}
	return lock, refused
}

// HandOver implements server.HandOverStore, in one transaction.
func (s *Store) HandOver(ctx context.Context, id string, next server.NewLock) (server.Handover, error) {
	var both server.Handover
	err := s.submit(ctx, func(w *state) {
		both.Deleted, both.DeleteErr = w.delete(id)
		both.Created, both.CreateErr = w.create(next, s.clock())
	})
	if err != nil {
		return server.Handover{}, err
	}
	return both, nil
}

// CallOff implements server.Store. It remembers the last 100,000 marks.
func (s *Store) CallOff(ctx context.Context, mark string, keep time.Duration) ([]server.Lock, error) {
	var locks []server.Lock
	if err := s.submit(ctx, func(w *state) { locks = w.callOff(mark, keep, s.clock()) }); err != nil {
		return nil, err
	}
	return locks, nil
}

// Sweep implements server.Store. It goes to the disk only when something is due.
func (s *Store) Sweep(ctx context.Context, grace time.Duration) ([]server.Lock, time.Duration, error) {
	var swept []server.Lock
	var next time.Duration
	if err := s.submit(ctx, func(w *state) { swept, next = w.sweep(grace, s.clock()) }); err != nil {
		return nil, 0, err
	}
	return swept, next, nil
}

// Ping implements server.Store. After a write that has failed it makes another one, to find out.
func (s *Store) Ping(ctx context.Context) error {
	switch err := s.view.open(); {
	case err != nil:
		return err
	case s.committer.failing.Load():
		return s.submit(ctx, (*state).touch)
	case s.committer.stuck():
		return s.unavailable(errors.New("the disk does not answer"))
	}
	if err := s.disk.inPlace(); err != nil {
		return s.unavailable(err)
	}
	return nil
}

// Watch implements server.Store. No other server can share the file; but a request that was answered with ErrUnavailable
// may come about later, unheard by who made it, and then Watch says EventMissed.
func (s *Store) Watch(ctx context.Context, hear func(server.Event)) error {
	for seen := 0; ; {
		n, news := s.surprises.look()
		if n != seen {
			seen = n
			hear(server.Event{Kind: server.EventMissed})
			continue
		}
		select {
		case <-news:
		case <-s.committer.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// surprises counts how often something may have come about unheard.
type surprises struct {
	mu   sync.Mutex
	n    int
	news chan struct{} // closed with the next one
}

func (u *surprises) look() (n int, news <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n, u.news
}

func (s *Store) surprise() {
	u := &s.surprises
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n++
	close(u.news)
	u.news = make(chan struct{})
}

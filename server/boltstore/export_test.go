package boltstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"reflect"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Option sets up a Store.
type Option func(*config)

// OpenWith is Open with options.
func OpenWith(path string, opts ...Option) (*Store, error) {
	c := newConfig(nil)
	for _, o := range opts {
		o(&c)
	}
	return open(path, c)
}

// WithLogger has the store log to l.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.log = l } }

// WithClock has the store read the time from now.
func WithClock(now func() time.Time) Option { return func(c *config) { c.now = now } }

// WithLink replaces os.Link.
func WithLink(link func(old, new string) error) Option { return func(c *config) { c.link = link } }

// WithSmallLog makes a log of 16 pages.
func WithSmallLog() Option { return WithLog(16) }

// WithLog makes a log of so many pages.
func WithLog(pages int) Option { return func(c *config) { c.logSize = (pages + 1) * walPage } }

// WriteFunc is (*os.File).WriteAt.
type WriteFunc = func(page []byte, at int64) (int, error)

// HookWrites has all pages and records written by hook, which calls write to have it done.
func (s *Store) HookWrites(hook func(page []byte, at int64, write WriteFunc) (int, error)) {
	s.alone(func(*state) {
		write := s.disk.writeAt
		hooked := func(page []byte, at int64) (int, error) { return hook(page, at, write) }
		s.disk.writeAt = hooked
		field := reflect.ValueOf(s.disk.db).Elem().FieldByName("ops").FieldByName("writeAt")
		*(*WriteFunc)(field.Addr().UnsafePointer()) = hooked
	})
}

// HookSyncs calls hook before each sync that is not bbolt's own.
func (s *Store) HookSyncs(hook func()) {
	s.alone(func(*state) {
		sync := s.disk.sync
		s.disk.sync = func() error { hook(); return sync() }
	})
}

// Admit opens the file at path and answers what is written for that.
func Admit(path string, write func(page []byte, at int64)) error {
	d, err := openDisk(path, logSize)
	if err != nil {
		return err
	}
	d.writeAt = func(page []byte, at int64) (int, error) {
		write(page, at)
		return d.file.WriteAt(page, at)
	}
	_, err = d.admit()
	return errors.Join(err, d.close())
}

// File answers the file that the store writes to.
func (s *Store) File() *os.File { return s.disk.file }

// PageSize answers the size of the file's pages. The first two are the meta pages.
func (s *Store) PageSize() int64 { return s.disk.wal.page }

// IsLast reports whether what is written there is the last of its change: a record of the log, or
// the meta page of a checkpoint. It is for hooks.
func (s *Store) IsLast(at int64) bool { return at < 2*s.PageSize() || s.InLog(at) }

// InLog reports whether that is a place of the log.
func (s *Store) InLog(at int64) bool {
	l := s.disk.wal
	return l.at <= at && at < l.at+l.size
}

// NoLog makes the next write a checkpoint.
func (s *Store) NoLog() { s.alone(func(*state) { s.disk.wal.cost = math.MaxInt64 / 2 }) }

// Checkpoint makes one.
func (s *Store) Checkpoint() {
	s.alone(func(w *state) { s.disk.wal.cost = math.MaxInt64 / 2; w.touch() })
}

// CountCommits returns a function that returns how many changes were made durable since, each
// together with others or alone.
func (s *Store) CountCommits() func() int {
	var n atomic.Int64
	s.HookWrites(func(page []byte, at int64, write WriteFunc) (int, error) {
		if s.IsLast(at) {
			n.Add(1)
		}
		return write(page, at)
	})
	return func() int { return int(n.Load()) }
}

// Content is everything that a store has to remember.
type Content struct {
	Locks []store.Lock
	Marks map[lockset.Key]time.Time // cancelled until
	Token uint64
}

// Content answers what the committer decides on.
func (s *Store) Content() (c Content) {
	s.alone(func(w *state) {
		c.Token = w.Token
		c.Marks = map[lockset.Key]time.Time{}
		for k, m := range w.Cancelled.Latest() {
			c.Marks[k] = m.Until
		}
		c.Locks = lockset.List(w.Records())
	})
	return c
}

// Shown answers what everybody may see. The token is not in it.
func (s *Store) Shown() (c Content) {
	c.Locks, _ = s.view.list()
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	c.Marks = map[lockset.Key]time.Time{}
	for k, m := range maps.All(s.view.off) {
		c.Marks[k] = m.Until
	}
	return c
}

// Spoil has a request break the state and panic. It answers the request's error.
func (s *Store) Spoil() error {
	return s.submit(context.Background(), func(w *state) {
		w.Set = lockset.Set{}
		w.Token--
		panic("a bug")
	})
}

// alone runs do while nothing else is decided or written.
func (s *Store) alone(do func(*state)) {
	if err := s.submit(context.Background(), do); err != nil {
		panic(err)
	}
}

// CancelMany cancels the marks "name 0", "name 1", … in transactions that a busy machine too is
// done with in good time.
func (s *Store) CancelMany(owner, name string, n int) {
	const atOnce = 5000
	for from := 0; from < n; from += atOnce {
		s.alone(func(w *state) {
			for i := from; i < min(from+atOnce, n); i++ {
				_, err := w.Cancel(owner, fmt.Sprint(name, " ", i), s.clock())
				if err != nil {
					panic(err)
				}
			}
		})
	}
}

// Used answers how much of the file has content.
func (s *Store) Used() int64 { return s.disk.used.Load() }

// HasLog reports whether the file has a log.
func (s *Store) HasLog() (has bool) {
	s.alone(func(*state) { has = s.disk.wal.at != 0 })
	return has
}

// LogAt answers where the log is in the file.
func (s *Store) LogAt() int64 { return s.disk.wal.at }

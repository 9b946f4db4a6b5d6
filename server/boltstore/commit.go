package boltstore

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server"
)

const (
	patience = 4 * time.Second // for a transaction; a caller who gives up after 5 s still gets an answer
	retry    = time.Second     // between attempts to recover while nobody asks for anything

	maxBatch  = 1024   // requests in one transaction
	maxQueued = 10_000 // requests that wait for the disk; more are refused
)

// request is something that may change the state. The committer runs do, then answers whether what came of it is durable.
type request struct {
	do    func(*state)
	stage atomic.Int32
	err   chan error // of capacity 1
}

const (
	queued   = iota // may still be withdrawn
	begun           // nobody knows how it ends until it is
	answered        // err has been sent
	left            // nobody waits for the answer any more
)

// committer makes requests durable: all that are there at once, in one transaction. While that is under way the
// next ones gather. Nobody waits for company: a request that comes alone is committed alone.
type committer struct {
	bell    chan struct{} // there is something to do
	ended   chan struct{} // closed when the committer is done, err says how the file was closed
	err     error
	started time.Time
	busy    atomic.Int64 // when the transaction under way began, since started; 0: none is
	failing atomic.Bool  // the last transaction has failed
	doubt   error        // why the state is not known, when it is not; the committer's own

	mu     sync.Mutex
	queue  []*request
	closed bool
}

// submit has the committer run do, and returns nil once everything that do changed, and everything on which it was
// decided, is durable. ErrUnavailable: it may come about or not. When ctx ends before it is begun, it is not.
func (s *Store) submit(ctx context.Context, do func(*state)) error {
	r := &request{do: do, err: make(chan error, 1)}
	if err := s.enqueue(r); err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-r.err:
		return err
	case <-ctx.Done():
		if r.stage.CompareAndSwap(queued, left) {
			return fmt.Errorf("relukko: store %s: %w", s.disk.path, context.Cause(ctx))
		}
		select {
		case err := <-r.err:
			return err
		case <-timer.C:
		}
	case <-timer.C:
	}
	if r.stage.CompareAndSwap(queued, left) || r.stage.CompareAndSwap(begun, left) {
		return s.unavailable(fmt.Errorf("the disk has not answered for %v", patience))
	}
	return <-r.err
}

func (s *Store) enqueue(r *request) error {
	if s.committer.stuck() {
		return s.unavailable(fmt.Errorf("the disk has not answered for %v", patience))
	}
	c := &s.committer
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return s.errClosed()
	case len(c.queue) >= maxQueued:
		return s.unavailable(fmt.Errorf("%d requests are waiting for the disk", len(c.queue)))
	}
	c.queue = append(c.queue, r)
	c.ring()
	return nil
}

func (c *committer) ring() {
	select {
	case c.bell <- struct{}{}:
	default:
	}
}

// take answers the next requests, and whether more are to be expected.
func (c *committer) take() (batch []*request, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), maxBatch)
	batch, c.queue = c.queue[:n:n], c.queue[n:]
	if len(c.queue) > 0 {
		c.ring()
	} else {
		c.queue = nil
	}
	return batch, !c.closed || len(c.queue) > 0
}

// stuck tells whether the transaction under way takes longer than anybody waits.
func (c *committer) stuck() bool {
	began := c.busy.Load()
	return began != 0 && time.Since(c.started)-time.Duration(began) > patience
}

// atWork marks the time until done is called as spent on the disk.
func (c *committer) atWork() (done func()) {
	c.busy.Store(int64(max(time.Since(c.started), 1)))
	return func() { c.busy.Store(0) }
}

// commit is the committer's goroutine. It alone changes the state, the file and the view.
func (s *Store) commit(w *state) {
	c := &s.committer
	defer close(c.ended)
	debug.SetPanicOnFault(true) // a disk that fails under the memory map must not end the process
	var again <-chan time.Time
	for {
		select {
		case <-c.bell:
		case <-again:
		}
		runtime.Gosched() // who is just about to ask comes along; when nobody is, this is nothing
		batch, open := c.take()
		if w == nil {
			w = s.recover()
		}
		w = s.run(w, batch)
		again = nil
		if w == nil {
			again = time.After(retry)
		}
		if !open {
			c.err = s.disk.close()
			return
		}
	}
}

// run decides on a batch of requests and makes what comes of it durable. It answers the state as it then is, or nil
// when that is not known.
func (s *Store) run(w *state, batch []*request) *state {
	ready := batch[:0]
	for _, r := range batch {
		if r.stage.CompareAndSwap(queued, begun) {
			ready = append(ready, r)
		}
	}
	if len(ready) == 0 {
		return w
	}
	if w == nil {
		s.answer(ready, s.unavailable(s.committer.doubt))
		return nil
	}
	if err := s.decide(w, ready); err != nil {
		s.answer(ready, s.unavailable(err))
		return s.recover()
	}
	if len(w.changes) == 0 && !w.touched {
		s.answer(ready, nil)
		return w
	}
	w.forget(s.clock())
	done := s.committer.atWork()
	err := s.disk.write(w.changes, &w.summary)
	done()
	if err != nil {
		s.failed(err)
		// Whoever asked for something that came to nothing must not be told what it was decided on either.
		s.answer(ready, s.unavailable(err))
		return s.recover()
	}
	s.view.apply(w.changes)
	clear(w.changes)
	w.changes, w.touched = w.changes[:0], false
	s.works()
	if s.answer(ready, nil) {
		s.surprise()
	}
	return w
}

// decide runs the requests on the state. After a panic the state is no good any more, but what is on disk is.
func (s *Store) decide(w *state, batch []*request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic", "store", s.disk.path, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	for _, r := range batch {
		r.do(w)
	}
	return nil
}

// answer answers all requests of a batch, and tells whether somebody has left and will not hear that his came about.
func (s *Store) answer(batch []*request, err error) (unheard bool) {
	for _, r := range batch {
		if r.stage.CompareAndSwap(begun, answered) {
			r.err <- err
		} else {
			unheard = true
		}
	}
	return unheard
}

// recover answers the state as it is on disk after a write has failed, and shows it to everybody; nil when the disk
// fails still.
func (s *Store) recover() *state {
	defer s.committer.atWork()()
	w, cameAbout, err := s.disk.recover()
	if err != nil {
		s.committer.doubt = err
		return nil
	}
	w.token = max(w.token, s.floor)
	s.view.show(w)
	if cameAbout {
		s.surprise()
	}
	return w
}

func (s *Store) failed(err error) {
	if !s.committer.failing.Swap(true) {
		s.log.Error("the store can't be written", "store", s.disk.path, "error", err)
	}
}

func (s *Store) works() {
	if s.committer.failing.Load() && s.committer.failing.Swap(false) {
		s.log.Info("the store can be written again", "store", s.disk.path)
	}
}

func (s *Store) unavailable(err error) error {
	return fmt.Errorf("%w: %s: %w", server.ErrUnavailable, s.disk.path, err)
}

func (s *Store) errClosed() error {
	return fmt.Errorf("%w: %s is closed", server.ErrUnavailable, s.disk.path)
}

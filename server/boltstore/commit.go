package boltstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	patience = 4 * time.Second // for a transaction, less than the 5 s that clients wait
	retry    = time.Second     // between attempts to recover while there are no requests

	maxBatch  = 1024   // requests in one transaction
	maxQueued = 10_000 // requests that wait for the disk; more are refused
)

var errDisk = fmt.Errorf("the disk has not responded for %v", patience)

// request is something that may change the state. The committer runs do, then sends on err whether
// what it decided is durable.
type request struct {
	do    func(*state)
	stage atomic.Int32
	err   chan error // of capacity 1
}

const (
	queued    = iota // may still be withdrawn
	begun            // its outcome is open
	answered         // err has been sent
	abandoned        // nobody waits for the outcome any more
)

// committer makes requests durable: all that are queued, in one transaction. Requests that come
// during a transaction share the next one. A request that comes alone is committed alone.
type committer struct {
	bell    chan struct{} // there is something to do
	ended   chan struct{} // closed when the committer has ended; err is how the file was closed
	err     error
	started time.Time
	busy    atomic.Int64 // when the transaction under way began, since started; 0: none
	failing atomic.Bool  // the last transaction has failed
	unknown error        // why the state is not known; only the committer uses it

	mu     sync.Mutex
	queue  []*request
	closed bool
}

// submit has the committer run do. It returns nil once everything that do changed, and everything
// on which it was decided, is durable. On ErrUnavailable the outcome is unknown. When ctx ends
// before do has begun, it is not run.
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
		if r.stage.CompareAndSwap(queued, abandoned) {
			return fmt.Errorf("relukko: store %s: %w", s.disk.path, context.Cause(ctx))
		}
		select {
		case err := <-r.err:
			return err
		case <-timer.C:
		}
	case <-timer.C:
	}
	if r.stage.CompareAndSwap(queued, abandoned) || r.stage.CompareAndSwap(begun, abandoned) {
		return s.unavailable(errDisk)
	}
	return <-r.err
}

func (s *Store) enqueue(r *request) error {
	if s.committer.stuck() {
		return s.unavailable(errDisk)
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

// take returns the next requests, and whether more are to be expected.
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

// stuck reports whether the transaction under way has taken longer than any caller waits.
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
		runtime.Gosched() // callers that are about to submit join the batch
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

// run decides on a batch of requests and makes the result durable. It returns the new state, or
// nil when that is not known.
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
		s.answer(ready, s.unavailable(s.committer.unknown))
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
	w.ForgetMarks(s.clock(), forgetBatch)
	done := s.committer.atWork()
	err := s.disk.write(w.changes, w.summary())
	done()
	if err != nil {
		s.failed(err)
		// Also the requests that changed nothing: they were decided on changes that may be lost.
		s.answer(ready, s.unavailable(err))
		return s.recover()
	}
	s.view.apply(w.changes)
	clear(w.changes)
	w.changes, w.touched = w.changes[:0], false
	s.works()
	if s.answer(ready, nil) {
		s.surprises.add()
	}
	return w
}

// decide runs the requests on the state. After a panic the state is of no use, but the disk is.
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

// answer ends all requests of a batch, and reports whether a caller has left without its outcome.
func (s *Store) answer(batch []*request, err error) (missed bool) {
	for _, r := range batch {
		if r.stage.CompareAndSwap(begun, answered) {
			r.err <- err
		} else {
			missed = true
		}
	}
	return missed
}

// recover returns the state that is on disk after a write has failed, and shows it; nil while the
// disk still fails.
func (s *Store) recover() *state {
	defer s.committer.atWork()()
	w, committed, err := s.disk.recover()
	if err != nil {
		s.committer.unknown = err
		return nil
	}
	w.Token = max(w.Token, s.floor)
	s.view.show(w)
	if committed {
		s.surprises.add()
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
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, s.disk.path, err)
}

func (s *Store) errClosed() error { return s.unavailable(errors.New("it is closed")) }

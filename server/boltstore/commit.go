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

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	patience = 4 * time.Second // for a write, less than the 5 s that clients wait
	retry    = time.Second     // between attempts to recover while there are no requests

	fewCallers  = 8 // in one write: the next one does not wait for others
	gatherTries = 5
	gatherPause = 50 * time.Microsecond

	maxBatch  = 1024   // requests in one write
	maxQueued = 10_000 // requests that wait for the disk; more are refused
)

var errDisk = fmt.Errorf("the disk has not responded for %v", patience)

// request is something that may change the state. The committer runs do, then sends on err whether
// what it decided is durable.
type request struct {
	do    func(*state)
	stage atomic.Int32
	err   chan error  // of capacity 1
	timer *time.Timer // the caller's
}

const (
	queued    = iota // may still be withdrawn
	begun            // its outcome is open
	answered         // err has been sent
	abandoned        // nobody waits for the outcome any more
)

// committer makes requests durable: all that are queued, in one write. Requests that come during a
// write share the next one. One that comes alone is written alone, see gather.
type committer struct {
	config
	disk      *disk
	view      view
	surprises surprises
	keep      keep

	bell    chan struct{} // there is something to do
	ended   chan struct{} // closed when the committer has ended; err is how the file was closed
	err     error
	started time.Time
	busy    atomic.Int64 // when the write under way began, since started; 0: none
	failing atomic.Bool  // the last write has failed
	wasFull bool         // the disk, as a create saw it last; only the committer uses it
	unknown error        // why the state is not known; so is this
	spare   sync.Pool    // requests for reuse

	mu     sync.Mutex
	queue  []*request
	closed bool
}

// start starts the committer on the state that is on the disk.
func (c *committer) start(w *state) {
	c.bell = make(chan struct{}, 1)
	c.ended = make(chan struct{})
	c.started = time.Now()
	c.surprises.changed = make(chan struct{})
	c.view.claims = w.Claims
	w.keep = &c.keep
	c.view.show(w)
	go c.commit(w)
}

// close returns once all requests are done and the file is closed. It reports false if it was
// called before.
func (c *committer) close() (bool, error) {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if !first {
		return false, nil
	}
	c.view.close(c.errClosed())
	c.ring()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.ended:
		return true, c.err
	case <-timer.C:
		return true, fmt.Errorf("not closed yet: %w", errDisk)
	}
}

// clock returns the store's time.
func (c *committer) clock() time.Time { return lockset.Now(c.now()) }

// submit has the committer run do. It returns nil once everything that do changed, and everything
// on which it was decided, is durable. On ErrUnavailable the outcome is unknown. When ctx ends
// before do has begun, it is not run.
func (c *committer) submit(ctx context.Context, do func(*state)) error {
	r, _ := c.spare.Get().(*request)
	if r == nil {
		r = &request{err: make(chan error, 1), timer: time.NewTimer(patience)}
	}
	r.do = do
	r.stage.Store(queued)
	r.timer.Reset(patience)
	if err := c.enqueue(r); err != nil {
		return c.reuse(r, err)
	}
	select {
	case err := <-r.err:
		return c.reuse(r, err)
	case <-ctx.Done():
		if r.stage.CompareAndSwap(queued, abandoned) {
			return fmt.Errorf("relukko: store %s: %w", c.disk.path, context.Cause(ctx))
		}
		select {
		case err := <-r.err:
			return c.reuse(r, err)
		case <-r.timer.C:
		}
	case <-r.timer.C:
	}
	if r.stage.CompareAndSwap(queued, abandoned) || r.stage.CompareAndSwap(begun, abandoned) {
		return c.unavailable(errDisk)
	}
	return c.reuse(r, <-r.err)
}

// reuse keeps a request that was answered, or not queued, for a next call. It returns err.
func (c *committer) reuse(r *request, err error) error {
	r.timer.Stop()
	r.do = nil
	c.spare.Put(r)
	return err
}

func (c *committer) enqueue(r *request) error {
	if c.stuck() {
		return c.unavailable(errDisk)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return c.errClosed()
	case len(c.queue) >= maxQueued:
		return c.unavailable(fmt.Errorf("%d requests are waiting for the disk", len(c.queue)))
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

// gather waits for callers that are about to submit, so that they join the batch. Last is how many
// were in the one before it. Those of a large batch come again soon, one after another: if the
// first few had a write of their own, all others would have to wait for it.
func (c *committer) gather(last int) {
	runtime.Gosched()
	for range gatherTries {
		c.mu.Lock()
		n := len(c.queue)
		c.mu.Unlock()
		if last < fewCallers || n >= last*3/4 {
			return
		}
		time.Sleep(gatherPause)
	}
}

// take returns the next requests, and whether more are to be expected.
func (c *committer) take(most int) (batch []*request, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), most)
	batch, c.queue = c.queue[:n:n], c.queue[n:]
	if len(c.queue) > 0 {
		c.ring()
	} else {
		c.queue = nil
	}
	return batch, !c.closed || len(c.queue) > 0
}

// stuck reports whether the write under way has taken longer than any caller waits.
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
func (c *committer) commit(w *state) {
	defer close(c.ended)
	debug.SetPanicOnFault(true) // a disk that fails under the memory map must not end the process
	var again <-chan time.Time
	last, most := 0, maxBatch
	for {
		select {
		case <-c.bell:
		case <-again:
		}
		c.gather(last)
		batch, open := c.take(most)
		last = len(batch)
		if w == nil {
			w = c.recover()
		}
		w = c.run(w, batch)
		if most = min(most+most/8+1, maxBatch); c.failing.Load() {
			most = max(len(batch)/4, 1) // the disk may have the space for some
		}
		again = nil
		if w == nil {
			again = time.After(retry)
		}
		if !open {
			c.err = c.disk.close()
			return
		}
	}
}

// run decides on a batch of requests and makes the result durable. It returns the new state, or
// nil when that is not known.
func (c *committer) run(w *state, batch []*request) *state {
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
		c.answer(ready, c.unavailable(c.unknown))
		return nil
	}
	if err := c.decide(w, ready); err != nil {
		c.answer(ready, c.unavailable(err))
		return c.recover()
	}
	if len(w.changes) == 0 && !w.touched {
		c.answer(ready, nil)
		return w
	}
	w.ForgetMarks(c.clock(), forgetBatch)
	done := c.atWork()
	err := c.disk.write(w, c.clock())
	done()
	if err != nil {
		c.failed(err)
		// Also the requests that changed nothing: they were decided on changes that may be lost.
		c.answer(ready, c.unavailable(err))
		return c.recover()
	}
	c.view.apply(w.changes)
	clear(w.changes)
	w.changes, w.created, w.touched = w.changes[:0], false, false
	c.works()
	if c.answer(ready, nil) {
		c.surprises.add()
	}
	return w
}

// decide runs the requests on the state. After a panic the state is of no use, but the disk is.
func (c *committer) decide(w *state, batch []*request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic", "store", c.disk.path, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	for _, r := range batch {
		r.do(w)
	}
	return nil
}

// answer ends all requests of a batch, and reports whether a caller has left without its outcome.
func (c *committer) answer(batch []*request, err error) (missed bool) {
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
func (c *committer) recover() *state {
	defer c.atWork()()
	w, err := c.disk.recover()
	if err != nil {
		c.unknown = err
		return nil
	}
	w.Claims = c.view.claims
	w.keep = &c.keep
	c.view.show(w)
	c.surprises.add()
	return w
}

// full returns the error of a create if there is no space for it.
func (c *committer) full() error {
	full := c.disk.full()
	if full != c.wasFull {
		c.wasFull = full
		if full {
			c.log.Error("the disk is full: no more locks are created", "store", c.disk.path)
		} else {
			c.log.Info("the disk has space again: locks are created", "store", c.disk.path)
		}
	}
	if !full {
		return nil
	}
	return c.unavailable(fmt.Errorf("%w: the disk is full; renewals and releases go on",
		store.ErrNotDone))
}

func (c *committer) failed(err error) {
	if !c.failing.Swap(true) {
		c.log.Error("the store can't be written", "store", c.disk.path, "error", err)
	}
}

func (c *committer) works() {
	if c.failing.Load() && c.failing.Swap(false) {
		c.log.Info("the store can be written again", "store", c.disk.path)
	}
}

func (c *committer) unavailable(err error) error {
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, c.disk.path, err)
}

func (c *committer) errClosed() error { return c.unavailable(errors.New("it is closed")) }

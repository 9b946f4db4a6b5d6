// Package tasks keeps account of what the mutexes of one api.Client have under
// way, so that Client.Close can end the waiters, wait for the holders and the
// cleanups, and say what it had to abandon.
package tasks

import (
	"context"
	"slices"
	"sync"
)

// Group is the account of one client. Make one with [NewGroup].
type Group struct {
	cause   error
	base    context.Context // of every request of a task
	end     context.CancelCauseFunc
	closing chan struct{}

	mu     sync.Mutex
	tasks  map[*Task]struct{}
	idle   chan struct{} // non-nil once Close has begun; closed when no task is left
	shared any

	abandoned bool // Close has given up waiting
}

// NewGroup returns an empty group. cause is why whatever Close ends was ended.
func NewGroup(cause error) *Group {
	g := &Group{cause: cause, closing: make(chan struct{}), tasks: make(map[*Task]struct{})}
	g.base, g.end = context.WithCancelCause(context.WithValue(context.Background(), permitted{}, true))
	return g
}

// Shared returns the one value that the mutexes of this client share, made by
// the first call.
func (g *Group) Shared(make func() any) any {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shared == nil {
		g.shared = make()
	}
	return g.shared
}

// Closing is closed when Close begins.
func (g *Group) Closing() <-chan struct{} { return g.closing }

// Context is for requests on behalf of all tasks; see [Task.Context].
func (g *Group) Context() context.Context { return g.base }

// Close refuses new tasks, ends those that only wait for a lock, and waits for
// the others. When ctx ends before they do it abandons them, waits for them to notice, and returns their
// descriptions, sorted.
func (g *Group) Close(ctx context.Context) (abandoned []string) {
	g.mu.Lock()
	if g.idle == nil {
		close(g.closing)
		g.idle = make(chan struct{})
		if len(g.tasks) == 0 {
			close(g.idle)
		}
	}
	for t := range g.tasks {
		if t.giveUp != nil {
			t.giveUp(g.cause)
		}
	}
	g.mu.Unlock()

	select {
	case <-g.idle:
	case <-ctx.Done():
		for _, job := range g.jobs() {
			abandoned = append(abandoned, job.Describe())
			job.Abandon()
		}
		slices.Sort(abandoned)
	}
	g.end(g.cause)
	<-g.idle
	return abandoned
}

func (g *Group) jobs() []Job {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.abandoned = true
	jobs := make([]Job, 0, len(g.tasks))
	for t := range g.tasks {
		jobs = append(jobs, t.job)
	}
	return jobs
}

// Job is what a task is about.
type Job interface {
	// Describe says what is under way: `lock "robot-arm-1" held`.
	Describe() string
	// Abandon ends it without waiting; its task is done soon after.
	Abandon()
}

// Task is one piece of work under way: a Lock that waits, a lock that is held,
// a cleanup.
type Task struct {
	group  *Group
	job    Job
	giveUp context.CancelCauseFunc // while it waits
}

// Start enters a task into the account, or returns nil when Close has begun.
func (g *Group) Start(job Job) *Task { return g.start(job, false) }

// StartLate is Start for what an earlier task left to be done: while Close
// still waits for others, it waits for this, too.
func (g *Group) StartLate(job Job) *Task { return g.start(job, true) }

func (g *Group) start(job Job, late bool) *Task {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned || g.idle != nil && (!late || len(g.tasks) == 0) {
		return nil
	}
	t := &Task{group: g, job: job}
	g.tasks[t] = struct{}{}
	return t
}

// Waiting returns a context derived from parent that ends, too, when Close
// begins. The task no longer waits once end was called.
func (t *Task) Waiting(parent context.Context) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(parent)
	t.group.mu.Lock()
	defer t.group.mu.Unlock()
	t.giveUp = cancel
	if t.group.idle != nil {
		cancel(t.group.cause)
	}
	return ctx, t.waited
}

func (t *Task) waited() {
	t.group.mu.Lock()
	defer t.group.mu.Unlock()
	t.giveUp(nil)
	t.giveUp = nil
}

// Become changes what the task is about.
func (t *Task) Become(job Job) {
	t.group.mu.Lock()
	t.job = job
	abandoned := t.group.abandoned
	t.group.mu.Unlock()
	if abandoned {
		job.Abandon()
	}
}

// Done takes the task off the account. Further calls do nothing.
func (t *Task) Done() {
	g := t.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.tasks[t]; !ok {
		return
	}
	delete(g.tasks, t)
	if len(g.tasks) == 0 && g.idle != nil {
		close(g.idle)
	}
}

// Context has the values of values, but neither its cancellation nor its
// deadline. It ends when Close abandons the task, and requests made with it
// are let through while Close waits.
func (t *Task) Context(values context.Context) context.Context {
	return taskContext{t.group.base, values, false}
}

// Once is Context for a request that is to be tried once only.
func (t *Task) Once(values context.Context) context.Context {
	return taskContext{t.group.base, values, true}
}

// taskContext asks the base first: package context then finds the base's
// canceller, not one among values.
type taskContext struct {
	context.Context
	values context.Context
	once   bool
}

func (c taskContext) Value(key any) any {
	if key == (once{}) {
		return c.once
	}
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// UntilClose is ctx for a request that ends when Close begins.
func UntilClose(ctx context.Context) context.Context { return untilCloseContext{ctx} }

type untilCloseContext struct{ context.Context }

func (c untilCloseContext) Value(key any) any {
	if key == (untilClose{}) {
		return true
	}
	return c.Context.Value(key)
}

type (
	permitted  struct{}
	once       struct{}
	untilClose struct{}
)

// Permitted reports whether ctx belongs to a task, whose requests go through
// while its client closes.
func Permitted(ctx context.Context) bool { return ctx.Value(permitted{}) != nil }

// IsUntilClose reports whether ctx is that of a request that ends when Close
// begins.
func IsUntilClose(ctx context.Context) bool { return ctx.Value(untilClose{}) == true }

// IsOnce reports whether ctx is that of a request that is to be tried once.
func IsOnce(ctx context.Context) bool { return ctx.Value(once{}) == true }

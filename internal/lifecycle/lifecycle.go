// Package lifecycle records what a client has under way, so that its Shutdown
// can end those who only wait, wait for the others, and say what it abandoned.
package lifecycle

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Of returns the group of a client, an *api.Client. Package api sets it: none
// of its exported methods returns a type of this package.
var Of func(client any) *Group

// Job is something under way, compared by identity.
type Job interface {
	Describe() string // what it is: `lock "robot-arm-1" (950daa20-…): held`
	Abandon()         // ends it without waiting; End is called soon after
}

// Group is what one client has under way. There are tasks, which may take as
// long as they like (a Lock that waits, a lock that is held, a cleanup), and
// calls, single requests to the backend.
//
// Once Close has begun, no task begins but those that continue others, and no
// call but while there are tasks.
type Group struct {
	closed    error // why what Close ends was ended
	open      context.Context
	close     context.CancelCauseFunc // ends open: Close has begun
	base      context.Context
	abandon   context.CancelCauseFunc // ends base: Close has given up waiting
	mu        sync.Mutex
	tasks     map[Job]struct{}
	calls     map[Job]struct{}
	waiting   map[*context.CancelCauseFunc]struct{} // of WhileOpen
	changed   chan struct{}                         // closed and replaced when a set becomes empty
	abandoned bool
	once      sync.Once
	shared    any      // of Shared
	last      []func() // of AtEnd
}

// NewGroup returns an empty group, which refuses with the error closed once it
// is closed.
func NewGroup(closed error) *Group {
	g := &Group{
		closed:  closed,
		tasks:   make(map[Job]struct{}),
		calls:   make(map[Job]struct{}),
		waiting: make(map[*context.CancelCauseFunc]struct{}),
		changed: make(chan struct{}),
	}
	g.open, g.close = context.WithCancelCause(context.Background())
	g.base, g.abandon = context.WithCancelCause(context.Background())
	return g
}

// Shared returns the one value that the mutexes of this client share, made by
// the first call.
func (g *Group) Shared(make func() any) any {
	g.once.Do(func() { g.shared = make() })
	return g.shared
}

// Begin records a task, unless Close has begun.
func (g *Group) Begin(task Job) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open.Err() != nil {
		return g.closed
	}
	g.tasks[task] = struct{}{}
	return nil
}

// Continue records a task that another one leaves to be done, which must not
// have ended yet, unless Close has abandoned it.
func (g *Group) Continue(task Job) error { return g.follow(g.tasks, task) }

// Call records a call.
func (g *Group) Call(call Job) error { return g.follow(g.calls, call) }

func (g *Group) follow(set map[Job]struct{}, job Job) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.refusal(); err != nil {
		return err
	}
	set[job] = struct{}{}
	return nil
}

// Refusal returns the error with which Call would refuse, or nil.
func (g *Group) Refusal() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refusal()
}

func (g *Group) refusal() error {
	if g.abandoned || g.open.Err() != nil && len(g.tasks) == 0 {
		return g.closed
	}
	return nil
}

// End removes a job from the record. Further calls do nothing.
func (g *Group) End(job Job) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, set := range []map[Job]struct{}{g.tasks, g.calls} {
		if _, ok := set[job]; ok {
			delete(set, job)
			if len(set) == 0 && g.open.Err() != nil {
				close(g.changed)
				g.changed = make(chan struct{})
			}
		}
	}
}

// Open returns a context that ends when Close begins.
func (g *Group) Open() context.Context { return g.open }

// WhileOpen returns a context derived from parent that also ends, with the
// group's error as its cause, when Close begins. The caller must call end.
func (g *Group) WhileOpen(parent context.Context,
) (ctx context.Context, end context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open.Err() != nil {
		cancel(g.closed)
	} else {
		g.waiting[&cancel] = struct{}{}
	}
	return ctx, func(cause error) {
		g.mu.Lock()
		delete(g.waiting, &cancel)
		g.mu.Unlock()
		cancel(cause)
	}
}

// Context is for the requests of tasks. It has the values of values, but
// neither its cancellation nor its deadline, and ends when Close abandons what
// is left.
func (g *Group) Context(values context.Context) context.Context {
	return mergedContext{g.base, values}
}

// mergedContext looks a key up in the base first: package context then finds
// the base's canceller, not one among values.
type mergedContext struct {
	context.Context
	values context.Context
}

func (c mergedContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// Close ends what WhileOpen guards, and waits for the tasks and then for the
// calls. When ctx ends first, it abandons what is left, waits until that has
// ended, and returns what it was: first the tasks, then the calls, each sorted.
func (g *Group) Close(ctx context.Context) (abandoned []string) {
	g.mu.Lock()
	g.close(g.closed)
	for cancel := range g.waiting {
		(*cancel)(g.closed)
	}
	clear(g.waiting)
	g.mu.Unlock()
	if !g.wait(ctx) {
		tasks, calls := g.giveUp()
		abandoned = append(end(tasks), end(calls)...)
	}
	g.abandon(g.closed)
	g.wait(context.Background())
	g.mu.Lock()
	last := g.last
	g.mu.Unlock()
	for _, f := range last {
		f()
	}
	return abandoned
}

// AtEnd has Close call f, which ends what serves the tasks, once nothing is left.
func (g *Group) AtEnd(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = append(g.last, f)
}

// wait reports whether nothing is left; false: ctx ended first.
func (g *Group) wait(ctx context.Context) bool {
	for {
		g.mu.Lock()
		left, changed := len(g.tasks)+len(g.calls), g.changed
		g.mu.Unlock()
		if left == 0 {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// giveUp refuses everything from now on, and returns what is left.
func (g *Group) giveUp() (tasks, calls []Job) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.abandoned = true
	return slices.Collect(maps.Keys(g.tasks)), slices.Collect(maps.Keys(g.calls))
}

// end abandons jobs and returns their descriptions.
func end(jobs []Job) (descriptions []string) {
	for _, job := range jobs {
		descriptions = append(descriptions, job.Describe())
		job.Abandon()
	}
	slices.Sort(descriptions)
	return descriptions
}

package classic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// pool is an Acquire of any one of several names. The backend knows no such request. So it is a
// call for each name: first one after the other, and then, when all are held, all together, each in
// the queue of its name. These share a gate, so that a release costs one create, and only one of
// them is granted a lock. Each call has a mark of its own, and cleans up after itself.
type pool struct {
	*parts
	r    *acquire.Request
	gate *semaphore.Weighted // of the creates

	refusals []error // of the names that the backend refuses

	mu     sync.Mutex
	holder *api.Lock // of one of the names, as last told
}

// acquireAny is Acquire for several names.
func (s *parts) acquireAny(ctx context.Context, r *acquire.Request) (*acquire.Grant, error) {
	if !r.Sent.IsZero() { // these calls do not look for what the other driver may have made
		s.CleanUp(r)
		r.Creator = remarked(r)
	}
	p := &pool{parts: s, r: r, gate: semaphore.NewWeighted(1)}
	from := rand.IntN(len(r.Any))
	g, held, err := p.try(ctx, append(r.Any[from:len(r.Any):len(r.Any)], r.Any[:from]...))
	if g == nil && err == nil && r.Wait {
		g, err = p.wait(ctx, held)
	}
	if g != nil || err != nil {
		return g, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return nil, &acquire.Failure{
		Text: "all of them are held", Errs: []error{api.ErrHeld}, Held: true, Holder: p.holder,
	}
}

// try tries the names one after the other. It returns those that are held if there is neither a
// grant nor an error. A name for which calls of this process wait already is left to them.
func (p *pool) try(ctx context.Context, names []string,
) (g *acquire.Grant, held []string, err error) {
	for _, name := range names {
		if p.r.Wait && p.queues.waiting(name) {
			held = append(held, name)
			continue
		}
		g, err := p.acquireOne(ctx, p.request(name, false), p.gate)
		f, _ := errors.AsType[*acquire.Failure](err)
		switch {
		case err == nil:
			return g, nil, nil
		case f != nil && f.Held && ctx.Err() == nil:
			p.told(f.Holder, -1)
			held = append(held, name)
		case acquire.Refused(err):
			p.refuse(name, err)
		default:
			return nil, nil, err
		}
	}
	return nil, held, p.refused()
}

// wait waits for all of these names. A grant ends the other calls.
func (p *pool) wait(ctx context.Context, names []string) (*acquire.Grant, error) {
	type result struct {
		name string
		g    *acquire.Grant
		err  error
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	results := make(chan result, len(names))
	for _, name := range names {
		go func() {
			g, err := p.acquireOne(ctx, p.request(name, true), p.gate)
			results <- result{name, g, err}
		}()
	}
	var first *acquire.Grant
	var failed error
	for range names {
		r := <-results
		switch {
		case r.err == nil && first == nil:
			first = r.g
		case r.err == nil: // its create had no response, and let another one through the gate
			r.g.Unknown.Add(true)
			p.Drop(r.g)
		case failed != nil || first != nil: // this one was ended
		case acquire.Refused(r.err):
			p.refuse(r.name, r.err)
			failed = p.refused()
		default:
			failed = r.err
		}
		if first != nil || failed != nil {
			end()
		}
	}
	if first != nil {
		return first, nil
	}
	return nil, failed
}

// request returns the request for one of the names.
func (p *pool) request(name string, wait bool) *acquire.Request {
	r := *p.r
	r.Name, r.Any, r.Wait, r.Creator = name, nil, wait, remarked(p.r)
	r.Sent, r.Progress = time.Time{}, p.told
	return &r
}

// remarked returns the creator of a request with another mark.
func remarked(r *acquire.Request) string {
	base, _, _ := wire.CutMark(r.Creator)
	return wire.WithMark(base, wire.NewMark())
}

// told reports a lock that holds one of the names.
func (p *pool) told(holder *api.Lock, ahead int) {
	if holder == nil {
		return
	}
	p.mu.Lock()
	p.holder = holder
	p.mu.Unlock()
	p.r.Progress(holder, ahead)
}

func (p *pool) refuse(name string, err error) {
	p.refusals = append(p.refusals, fmt.Errorf("%q: %w", name, err))
}

// refused returns the error for a pool whose names are all refused, or nil.
func (p *pool) refused() error {
	if len(p.refusals) < len(p.r.Any) {
		return nil
	}
	return &acquire.Failure{
		Text: "the backend refuses each of them: " +
			strings.ReplaceAll(errors.Join(p.refusals...).Error(), "\n", "; "),
		Errs: p.refusals,
	}
}

package classic

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

const (
	listTimeout = 10 * time.Second
	listPause   = 50 * time.Millisecond // at least, between two Lists
)

// listing is the result of one List.
type listing struct {
	locks  []api.Lock
	byName map[string]*api.Lock
	byID   map[string]*api.Lock
}

// holder returns the lock that holds the name, or nil.
func (l *listing) holder(name string) *api.Lock { return acquire.Copied(l.byName[name]) }

// lister shares Lists among all callers that need one. One List is under way at a time, and serves
// every caller that came before it was sent.
type lister struct {
	list func(context.Context, ...api.CallOption) ([]api.Lock, error)
	ctx  context.Context

	mu   sync.Mutex
	busy bool
	due  *round // the List that is sent next; nil: nobody needs one
}

// round is one List, with those who need its result.
type round struct {
	ctx       context.Context // ends when nobody needs it any more
	cancel    context.CancelFunc
	questions []question
	forgotten int // of these
}

// question is called when a List is about to be sent. It returns the function to be called with the
// result.
type question func() (answer func(*listing, error))

// next runs q, on another goroutine, with a List that is sent after this call. The caller may call
// forget once, when it needs the result no more: a List that nobody needs is ended.
func (l *lister) next(q question) (forget func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due == nil {
		l.due = new(round)
		l.due.ctx, l.due.cancel = context.WithCancel(l.ctx)
	}
	r := l.due
	r.questions = append(r.questions, q)
	if !l.busy {
		l.busy = true
		go l.run()
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if r.forgotten++; r.forgotten < len(r.questions) {
			return
		}
		r.cancel()
		if l.due == r {
			l.due = nil
		}
	}
}

// wait returns the result of a List that is sent after this call. It returns the cause of ctx if
// that ends first.
func (l *lister) wait(ctx context.Context) (*listing, error) {
	type result struct {
		list *listing
		err  error
	}
	done := make(chan result, 1)
	answer := func(list *listing, err error) { done <- result{list, err} }
	forget := l.next(func() func(*listing, error) { return answer })
	select {
	case r := <-done:
		return r.list, r.err
	case <-ctx.Done():
		forget()
		return nil, context.Cause(ctx)
	}
}

func (l *lister) run() {
	for {
		l.mu.Lock()
		r := l.due
		l.due = nil
		if r == nil {
			l.busy = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		answers := make([]func(*listing, error), len(r.questions))
		for i, q := range r.questions {
			answers[i] = q()
		}
		began := time.Now()
		list, err := l.once(r.ctx)
		r.cancel()
		for _, answer := range answers {
			answer(list, err)
		}
		pause := listPause
		if err == nil {
			pause = max(pause, time.Since(began)) // slow Lists use half of the time at most
		}
		acquire.Sleep(l.ctx, pause)
	}
}

func (l *lister) once(ctx context.Context) (*listing, error) {
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	locks, err := l.list(limited, api.Once())
	if err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			// This hides the error of the context, whose time limit is not the caller's.
			err = fmt.Errorf("no list of the locks within %v", listTimeout)
		}
		return nil, err
	}
	list := &listing{
		locks:  locks,
		byName: make(map[string]*api.Lock, len(locks)),
		byID:   make(map[string]*api.Lock, len(locks)),
	}
	for i := range locks {
		list.byName[locks[i].Name] = &locks[i]
		list.byID[locks[i].ID] = &locks[i]
	}
	return list, nil
}

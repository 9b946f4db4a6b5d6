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

	mu      sync.Mutex
	busy    bool
	waiting []question
}

// question is called when a List is about to be sent. It returns the function to be called with the
// result.
type question func() (answer func(*listing, error))

// next runs q, on another goroutine, with a List that is sent after this call.
func (l *lister) next(q question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, q)
	if !l.busy {
		l.busy = true
		go l.run()
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
	l.next(func() func(*listing, error) { return answer })
	select {
	case r := <-done:
		return r.list, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *lister) run() {
	for {
		l.mu.Lock()
		waiting := l.waiting
		l.waiting = nil
		if len(waiting) == 0 {
			l.busy = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		answers := make([]func(*listing, error), len(waiting))
		for i, q := range waiting {
			answers[i] = q()
		}
		began := time.Now()
		list, err := l.once()
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

func (l *lister) once() (*listing, error) {
	ctx, cancel := context.WithTimeout(l.ctx, listTimeout)
	defer cancel()
	locks, err := l.list(ctx, api.Once())
	if err != nil {
		if ctx.Err() != nil && l.ctx.Err() == nil {
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

package relukko

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// leases are those of a session: one, or for a MultiMutex one for each name, in the order of the
// names. Each renews itself, and ends the session when it ends.
type leases []*lease

func (ls leases) name() string {
	if all := ls[0].all; all != nil {
		return strings.Join(all, ", ")
	}
	return ls[0].name
}

func (ls leases) info() []api.Lock {
	locks := make([]api.Lock, len(ls))
	for i, l := range ls {
		locks[i] = l.info()
	}
	return locks
}

// end returns the end of the lease that ends first.
func (ls leases) end() (first time.Time) {
	for _, l := range ls {
		l.mu.Lock()
		end := l.end().Time()
		l.mu.Unlock()
		if first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// expire loses each lease whose time is over on either clock.
func (ls leases) expire() {
	for _, l := range ls {
		l.expire()
	}
}

// state returns why one of the leases has ended; nil: none has.
func (ls leases) state() error {
	for _, l := range ls {
		if err := l.state(); err != nil {
			return err
		}
	}
	return nil
}

// release ends the leases for Unlock, and releases the locks. What it returns is what Unlock
// returns.
func (ls leases) release(ctx context.Context) error {
	if len(ls) == 1 {
		return ls[0].release(ctx)
	}
	ls.expire() // first, so that a loss and not ErrUnlocked is the cause of the contexts
	errs := make([]error, len(ls))
	var all sync.WaitGroup
	for i, l := range ls {
		all.Go(func() { errs[i] = l.release(ctx) })
	}
	all.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

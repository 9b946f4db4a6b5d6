package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"
)

const (
	poolMembers    = 8
	poolClients    = 4
	poolGoroutines = 16 // of each client
	poolHold       = 5 * time.Millisecond
)

// poolClient is a client of a library that locks any one of several names.
type poolClient interface {
	// poolLockers returns what n goroutines of the process use to lock any one of the names.
	poolLockers(ctx context.Context, names []string, n int) ([]poolLocker, error)
}

// poolLocker is a locker of any one of several names.
type poolLocker interface {
	locker
	member() int // which one is held
}

// measurePool lets 64 goroutines over 4 clients share the 8 members of a pool. Each holds one for
// 5 ms, so that at most 1,600 acquisitions a second are possible.
func measurePool(ctx context.Context, m *measurement) (f figures, err error) {
	sections := make(sections, poolMembers)
	names := make([]string, poolMembers)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", m.lock, i)
		if sections[i], err = newSection(filepath.Join(m.dir, names[i])); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, sections.close(m.section)) }()
	var lockers []locker
	for range poolClients {
		c, err := m.connect(ctx, false)
		if err != nil {
			return nil, err
		}
		pools, ok := c.(poolClient)
		if !ok {
			return nil, nil
		}
		all, err := pools.poolLockers(ctx, names, poolGoroutines)
		if err != nil {
			return nil, err
		}
		for _, l := range all {
			lockers = append(lockers, &heldLocker{l, sections, int64(len(lockers) + 1)})
		}
	}
	got, err := contend(ctx, m, nil, lockers)
	if err != nil {
		return nil, err
	}
	return figures{
		poolRate: got.rate, poolBusy: 100 * got.rate * poolHold.Seconds() / poolMembers,
		poolLate: millis(got.late), poolLongest: millis(got.longest), poolSpread: got.spread,
		poolCPU: micros(got.cpu),
	}, nil
}

// sections are those of the members.
type sections []*section

// close adds their overlaps to those of another section.
func (s sections) close(to *section) error {
	var errs []error
	for _, one := range s {
		to.overlaps.Add(one.overlaps.Load())
		errs = append(errs, one.close())
	}
	return errors.Join(errs...)
}

// heldLocker holds a member for a while before it is unlocked.
type heldLocker struct {
	poolLocker
	sections sections
	me       int64
}

func (l *heldLocker) lock(ctx context.Context) error {
	err := l.poolLocker.lock(ctx)
	if err == nil {
		l.sections[l.member()].enter(l.me)
	}
	return err
}

func (l *heldLocker) unlock() error {
	time.Sleep(poolHold)
	l.sections[l.member()].leave(l.me)
	return l.poolLocker.unlock()
}

// pause waits for d, more or less, before the members are tried again.
func pause(ctx context.Context, d time.Duration) error {
	sleep(ctx, d/2+rand.N(d))
	return ctx.Err()
}

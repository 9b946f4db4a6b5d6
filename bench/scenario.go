package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// What is measured. Times are in µs, waits in ms.
const (
	uncontended    = "uncontended"     // Lock+Unlock, median
	bare           = "bare"            // POST+DELETE by net/http on the same server, median
	allocations    = "allocations"     // of a Lock+Unlock, beyond those of bare
	pinnedOne      = "pinned 1"        // uncontended, client and server on one processor
	pinnedOneCPU   = "pinned 1 CPU"    // of client and server for a Lock+Unlock
	pinnedTwo      = "pinned 2"        // uncontended, client and server on a processor each
	pinnedTwoCPU   = "pinned 2 CPU"    // of client and server for a Lock+Unlock
	handoffMedian  = "handoff"         // from one client's Unlock to the return of another's Lock
	handoffLate    = "handoff p95"     // the same
	warmMedian     = "warm"            // the same, after a short wait
	warmLate       = "warm p95"        // the same
	changes        = "changes"         // of owner, a second
	spread         = "spread"          // of owners' shares: most less fewest, in % of the mean
	late           = "wait p99.9"      // of an owner
	longest        = "longest"         // wait of one owner
	namesRate      = "names"           // Lock+Unlock a second, of 100 locks by one client
	namesCPU       = "names CPU"       // of client and server for a Lock+Unlock
	acquisitions   = "acquisitions"    // a second, by goroutines of one process
	handedOn       = "handed on"       // the same, with WithHandoff
	handedOnRival  = "handed on rival" // the same, while another process wants the lock too
	rivalLongest   = "rival longest"   // wait of that process
	poolRate       = "pool"            // acquisitions a second, of a pool
	poolBusy       = "pool busy"       // share of the time in which a member is held, in %
	poolLate       = "pool p99.9"      // wait
	poolLongest    = "pool longest"    // wait
	poolSpread     = "pool spread"     // of the goroutines' shares, in %
	poolCPU        = "pool CPU"        // of client and server for an acquisition
	idleRequests   = "idle"            // requests, or messages, a second
	overlapsMetric = "overlaps"        // times that two were inside
)

// figures are what one measurement has found.
type figures map[string]float64

// scenario is one way to use locks.
type scenario struct {
	name string
	// Nil: nothing to measure with this peer.
	measure func(context.Context, *measurement) (figures, error)
}

var scenarios = []scenario{
	{"uncontended", measureUncontended},
	{"pinned-1", func(ctx context.Context, m *measurement) (figures, error) {
		return measurePinned(ctx, m, false)
	}},
	{"pinned-2", func(ctx context.Context, m *measurement) (figures, error) {
		return measurePinned(ctx, m, true)
	}},
	{"handoff", measureHandoff},
	{"handoff-warm", measureWarmHandoff},
	{"owners", measureOwners},
	{"names", measureNames},
	{"herd", measureHerd},
	{"handing-on", measureHandingOn},
	{"pool", measurePool},
	{"idle", nil}, // of all peers at once, see idle.go
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// measurement is one peer in one scenario in one run.
type measurement struct {
	service service
	lock    string // a name of its own
	d       time.Duration
	section *section
	dir     string
	clients []client
}

func newMeasurement(s *site, service service, lock string, d time.Duration) (*measurement, error) {
	section, err := newSection(filepath.Join(s.dir, lock))
	return &measurement{service: service, lock: lock, d: d, section: section, dir: s.dir}, err
}

// connect makes a client, which is closed with the measurement.
func (m *measurement) connect(ctx context.Context, counted bool) (client, error) {
	c, err := m.service.connect(ctx, counted)
	if err != nil {
		return nil, err
	}
	m.clients = append(m.clients, c)
	return c, nil
}

// close leaves nothing behind; the error says also whether two were inside.
func (m *measurement) close() error {
	var errs []error
	for _, c := range m.clients {
		errs = append(errs, c.close())
	}
	if n := m.section.overlaps.Load(); n > 0 {
		errs = append(errs, fmt.Errorf("overlap! Two were inside %d times", n))
	}
	return errors.Join(append(errs, m.section.close())...)
}

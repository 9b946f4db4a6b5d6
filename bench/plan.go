package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

// stuckAfter is how much longer than planned a measurement may take. After that
// it has a Lock that does not return.
const stuckAfter = 10 * time.Second

var errStuck = errors.New("stuck: a Lock did not return")

// plan is what is to be measured.
type plan struct {
	peers     []peer
	scenarios []scenario
	runs      int
	d, idle   time.Duration
	profile   string
	progress  io.Writer
}

// row is one peer with its service, or without one where it is absent.
type row struct {
	peer
	service service
	absent  string // why there is none
}

// key is one column of one peer.
type key struct{ peer, metric string }

// results are what was measured.
type results struct {
	plan
	rows     []row
	runs     []map[key]float64
	began    time.Time
	load     string // of the machine, before
	took     time.Duration
	failures []failure
}

// failure is a measurement without a result.
type failure struct {
	key  // the metric is the scenario
	text string
}

// run starts all servers, measures and stops them. Each run measures each
// scenario with one peer after the other, so that a slow phase of the machine
// slows all of them, and begins with another peer than the run before.
func (p plan) run(ctx context.Context, s *site) (r *results, err error) {
	r = &results{plan: p, began: time.Now(), load: load()}
	defer func() {
		for _, row := range r.rows {
			if row.service != nil {
				err = errors.Join(err, row.service.close())
			}
		}
	}()
	for _, peer := range p.peers {
		service, err := peer.start(s)
		if missing := new(absentError); errors.As(err, &missing) {
			r.rows = append(r.rows, row{peer: peer, absent: missing.why})
			continue
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", peer.name, err)
		}
		r.rows = append(r.rows, row{peer: peer, service: service})
	}
	for n := range p.runs {
		got := make(map[key]float64)
		r.runs = append(r.runs, got)
		for _, scenario := range p.scenarios {
			present := r.present(scenario.name, n)
			if scenario.measure == nil {
				r.idlers(ctx, s, present, n, got)
			} else {
				for _, row := range present {
					if ctx.Err() != nil {
						break
					}
					r.one(ctx, s, scenario, row, n, got)
				}
			}
			if ctx.Err() != nil {
				return r, errors.New("interrupted")
			}
		}
	}
	r.took = time.Since(r.began)
	return r, nil
}

// present returns the peers that take part in a scenario, in the order of run n.
func (r *results) present(scenario string, n int) []row {
	var present []row
	for _, row := range r.rows {
		if row.service != nil && row.takesPart(scenario) {
			present = append(present, row)
		}
	}
	if len(present) == 0 {
		return nil
	}
	first := n * len(present) / max(r.plan.runs, 1) % len(present)
	return slices.Concat(present[first:], present[:first])
}

func lockName(scenario string, row row, n int) string {
	return strings.ReplaceAll(fmt.Sprintf("%s-%s-%d", scenario, row.name, n), " ", "-")
}

// one measures one peer in one scenario.
func (r *results) one(ctx context.Context, s *site, scenario scenario, row row, n int,
	into map[key]float64) {
	name := lockName(scenario.name, row, n)
	m, err := newMeasurement(s, row.service, name, r.d)
	var f figures
	if err == nil {
		end := r.startProfile(name)
		limited, cancel := context.WithTimeoutCause(ctx, stuckAfter+3*r.d, errStuck)
		f, err = scenario.measure(limited, m)
		if err != nil && context.Cause(limited) == errStuck {
			err = errStuck
		}
		cancel()
		end()
		err = errors.Join(err, m.close())
	}
	r.take(scenario.name, row, n, f, err, into)
}

// idlers measures all peers at the same time.
func (r *results) idlers(ctx context.Context, s *site, present []row, n int, into map[key]float64) {
	var all []*measurement
	for _, row := range present {
		m, err := newMeasurement(s, row.service, lockName("idle", row, n), r.d)
		if err != nil {
			r.take("idle", row, n, nil, err, into)
			return
		}
		all = append(all, m)
	}
	for i, idler := range measureIdle(ctx, all, r.idle) {
		r.take("idle", present[i], n, idler.figures, errors.Join(idler.err, idler.m.close()), into)
	}
}

// take records the figures of a measurement, or its failure.
func (r *results) take(scenario string, row row, n int, f figures, err error,
	into map[key]float64) {
	if err != nil {
		r.failures = append(r.failures, failure{key{row.name, scenario},
			fmt.Sprintf("%s, %s, run %d: %v", row.name, scenario, n+1, err)})
		fmt.Fprintf(r.progress, "run %d  %-12s %-12s FAILED: %v\n", n+1, scenario, row.name, err)
		return
	}
	var texts []string
	for metric, value := range f {
		into[key{row.name, metric}] = value
		texts = append(texts, fmt.Sprintf("%s %.4g", metric, value))
	}
	slices.Sort(texts)
	if len(texts) > 0 {
		fmt.Fprintf(r.progress, "run %d  %-12s %-12s %s\n", n+1, scenario, row.name,
			strings.Join(texts, ", "))
	}
}

// startProfile begins a CPU profile of this process where one is asked for.
func (r *results) startProfile(name string) (end func()) {
	if r.profile == "" {
		return func() {}
	}
	f, err := os.Create(filepath.Join(r.profile, name+".pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(r.progress, "no profile:", err)
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}
}

// values returns the figures of all runs that have one.
func (r *results) values(peer, metric string) []float64 {
	var values []float64
	for _, run := range r.runs {
		if v, ok := run[key{peer, metric}]; ok {
			values = append(values, v)
		}
	}
	return values
}

package main

import (
	"fmt"
	"io"
	"slices"
)

// target is a figure, or a ratio of two, that Relukko must reach. Ratios are taken
// within a run, so that only figures of the same minutes are compared; the median
// of the runs decides.
type target struct {
	what    string
	of      key
	over    key // zero: the figure itself
	atLeast bool
	limit   float64
}

func most(what string, limit float64, of key, over ...key) target {
	return target{what: what, of: of, over: first(over), limit: limit}
}

func least(what string, limit float64, of key, over ...key) target {
	return target{what: what, of: of, over: first(over), limit: limit, atLeast: true}
}

func first(keys []key) key {
	if len(keys) == 0 {
		return key{}
	}
	return keys[0]
}

var targets = []target{
	most("pinned to one processor, memory ÷ pg_advisory_lock", 1.4, key{"memory", pinnedOne},
		key{"advisory", pinnedOne}),
	most("pinned to one processor, memory ÷ rueidislock", 1.2, key{"memory", pinnedOne},
		key{"rueidislock", pinnedOne}),
	most("pinned to one processor, Unix socket ÷ pg_advisory_lock", 1, key{"unix", pinnedOne},
		key{"advisory", pinnedOne}),
	most("pinned to two processors, memory ÷ pg_advisory_lock", 1.4, key{"memory", pinnedTwo},
		key{"advisory", pinnedTwo}),
	most("pinned to two processors, memory ÷ rueidislock", 1.2, key{"memory", pinnedTwo},
		key{"rueidislock", pinnedTwo}),
	most("pinned to two processors, Unix socket ÷ pg_advisory_lock", 1, key{"unix", pinnedTwo},
		key{"advisory", pinnedTwo}),
	most("uncontended, bbolt ÷ etcd", 0.8, key{"bolt", uncontended}, key{"etcd", uncontended}),
	most("uncontended, PostgreSQL ÷ etcd", 1, key{"postgres", uncontended},
		key{"etcd", uncontended}),
	most("uncontended, without the extensions ÷ bare POST+DELETE", 1.10,
		key{"plain", uncontended}, key{"plain", bare}),
	most("uncontended, without the extensions: allocations over bare", 20,
		key{"plain", allocations}),

	most("warm handoff, memory ÷ pg_advisory_lock", 0.8, key{"memory", warmMedian},
		key{"advisory", warmMedian}),
	most("handoff, memory ÷ pg_advisory_lock", 0.7, key{"memory", handoffMedian},
		key{"advisory", handoffMedian}),
	most("handoff, memory ÷ rueidislock", 0.7, key{"memory", handoffMedian},
		key{"rueidislock", handoffMedian}),
	most("warm handoff, bbolt ÷ etcd", 0.55, key{"bolt", warmMedian}, key{"etcd", warmMedian}),
	most("handoff, bbolt ÷ etcd", 0.55, key{"bolt", handoffMedian}, key{"etcd", handoffMedian}),
	most("warm handoff, PostgreSQL ÷ etcd", 0.75, key{"postgres", warmMedian},
		key{"etcd", warmMedian}),
	most("handoff, PostgreSQL ÷ etcd", 0.75, key{"postgres", handoffMedian},
		key{"etcd", handoffMedian}),

	least("changes of owner, memory ÷ pg_advisory_lock", 1.4, key{"memory", changes},
		key{"advisory", changes}),
	most("changes of owner, memory: shares differ by, %", 2, key{"memory", spread}),
	most("changes of owner, memory ÷ pg_advisory_lock: p99.9 of the waits", 1,
		key{"memory", late}, key{"advisory", late}),
	least("changes of owner, bbolt ÷ etcd", 10, key{"bolt", changes}, key{"etcd", changes}),
	least("changes of owner, PostgreSQL ÷ etcd", 10, key{"postgres", changes},
		key{"etcd", changes}),
	least("100 locks, memory ÷ pg_advisory_lock", 1.1, key{"memory", namesRate},
		key{"advisory", namesRate}),
	least("100 locks, bbolt ÷ etcd", 4, key{"bolt", namesRate}, key{"etcd", namesRate}),
	least("100 locks, PostgreSQL ÷ etcd", 4, key{"postgres", namesRate}, key{"etcd", namesRate}),

	most("CPU on one processor, memory ÷ pg_advisory_lock", 1.3, key{"memory", pinnedOneCPU},
		key{"advisory", pinnedOneCPU}),
	most("CPU on two processors, memory ÷ pg_advisory_lock", 1.3, key{"memory", pinnedTwoCPU},
		key{"advisory", pinnedTwoCPU}),
	most("CPU of 100 locks, memory ÷ pg_advisory_lock", 1.3, key{"memory", namesCPU},
		key{"advisory", namesCPU}),

	least("handing on, memory: acquisitions/s", 100_000, key{"memory", handedOn}),
	least("handing on, bbolt: acquisitions/s", 100_000, key{"bolt", handedOn}),
	least("handing on, PostgreSQL: acquisitions/s", 100_000, key{"postgres", handedOn}),
	most("handing on, memory: the rival's longest wait, ms", 150, key{"memory", rivalLongest}),
	most("handing on, bbolt: the rival's longest wait, ms", 150, key{"bolt", rivalLongest}),
	most("handing on, PostgreSQL: the rival's longest wait, ms", 150,
		key{"postgres", rivalLongest}),
	most("idle waiters, memory: messages/s", 10, key{"memory", idleRequests}),
	most("idle waiters, bbolt: messages/s", 10, key{"bolt", idleRequests}),
	most("idle waiters, PostgreSQL: messages/s", 10, key{"postgres", idleRequests}),
	most("idle waiters, without the extensions: messages/s", 15, key{"plain", idleRequests}),
}

// values returns the value of each run that has the figures for it.
func (t target) values(r *results) []float64 {
	var values []float64
	for _, run := range r.runs {
		v, ok := run[t.of]
		if !ok {
			continue
		}
		if t.over != (key{}) {
			other, ok := run[t.over]
			if !ok || other == 0 {
				continue
			}
			v /= other
		}
		values = append(values, v)
	}
	return values
}

func (t target) met(v float64) bool {
	if t.atLeast {
		return v >= t.limit
	}
	return v <= t.limit
}

// verdicts prints which targets are met, of those that were measured.
func (r *results) verdicts(w io.Writer) {
	fmt.Fprintln(w, "| target | | measured | |")
	fmt.Fprintln(w, "|---|---|---|---|")
	for _, t := range targets {
		values := t.values(r)
		if len(values) == 0 {
			continue
		}
		sign, verdict := "≤", "pass"
		if t.atLeast {
			sign = "≥"
		}
		if !t.met(median(values)) {
			verdict = "**miss**"
		}
		fmt.Fprintf(w, "| %s | %s %s | %s (%s–%s) | %s |\n", t.what, sign, number(t.limit),
			number(median(values)), number(slices.Min(values)), number(slices.Max(values)), verdict)
	}
	fmt.Fprintln(w)
}

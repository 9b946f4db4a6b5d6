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
	most("uncontended, memory ÷ bare POST+DELETE", 1.10, key{"memory", uncontended},
		key{"memory", bare}),
	most("uncontended, memory: allocations over bare", 20, key{"memory", allocations}),
	most("uncontended, bbolt ÷ etcd", 1, key{"bolt", uncontended}, key{"etcd", uncontended}),
	most("uncontended, PostgreSQL ÷ pglock", 1, key{"postgres", uncontended},
		key{"pglock", uncontended}),
	most("handoff, memory ÷ pg_advisory_lock", 1, key{"memory", handoffMedian},
		key{"advisory", handoffMedian}),
	most("handoff, memory ÷ rueidislock", 0.7, key{"memory", handoffMedian},
		key{"rueidislock", handoffMedian}),
	most("handoff, bbolt ÷ consul", 1, key{"bolt", handoffMedian}, key{"consul", handoffMedian}),
	most("handoff, PostgreSQL ÷ consul", 1, key{"postgres", handoffMedian},
		key{"consul", handoffMedian}),
	least("changes of owner, memory ÷ pg_advisory_lock", 1, key{"memory", changes},
		key{"advisory", changes}),
	most("changes of owner, memory: shares differ by, %", 1, key{"memory", spread}),
	most("changes of owner, memory: longest wait, ms", 50, key{"memory", longest}),
	least("changes of owner, bbolt ÷ etcd", 5, key{"bolt", changes}, key{"etcd", changes}),
	least("changes of owner, PostgreSQL ÷ etcd", 5, key{"postgres", changes}, key{"etcd", changes}),
	least("handing on, memory: acquisitions/s", 100_000, key{"memory", handedOn}),
	least("handing on, bbolt: acquisitions/s", 100_000, key{"bolt", handedOn}),
	least("handing on, PostgreSQL: acquisitions/s", 100_000, key{"postgres", handedOn}),
	most("handing on, memory: the rival's longest wait, ms", 150, key{"memory", rivalLongest}),
	most("handing on, bbolt: the rival's longest wait, ms", 150, key{"bolt", rivalLongest}),
	most("handing on, PostgreSQL: the rival's longest wait, ms", 150,
		key{"postgres", rivalLongest}),
	most("idle waiters, memory: requests/s", 2.5, key{"memory", idleRequests}),
	most("idle waiters, bbolt: requests/s", 2.5, key{"bolt", idleRequests}),
	most("idle waiters, PostgreSQL: requests/s", 2.5, key{"postgres", idleRequests}),
	most("idle waiters, without the extensions: requests/s", 15, key{"plain", idleRequests}),
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

package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// column is one column of the table.
type column struct {
	head     string
	scenario string
	metric   string
	unit     float64 // figures are divided by it
	beside   []part  // further figures in brackets
}

type part struct{ metric, format string }

var columns = []column{
	{head: "uncontended Lock+Unlock p50, µs", scenario: "uncontended", metric: uncontended,
		beside: []part{{bare, "bare POST+DELETE %s"}, {allocations, "%s allocations more"}}},
	{head: "the same on one processor, µs", scenario: "pinned-1", metric: pinnedOne,
		beside: []part{{pinnedOneCPU, "CPU %s"}}},
	{head: "client and server on a processor each, µs", scenario: "pinned-2", metric: pinnedTwo,
		beside: []part{{pinnedTwoCPU, "CPU %s"}}},
	{head: "handoff p50, ms", scenario: "handoff", metric: handoffMedian, unit: 1000,
		beside: []part{{handoffLate, "p95 %s"}}},
	{head: "warm handoff p50, ms", scenario: "handoff-warm", metric: warmMedian, unit: 1000,
		beside: []part{{warmLate, "p95 %s"}}},
	{head: "16 goroutines, 4 clients: changes of owner/s", scenario: "owners", metric: changes,
		beside: []part{{spread, "shares differ by %s %%"}, {late, "wait p99.9 %s ms"},
			{longest, "longest %s ms"}}},
	{head: "100 goroutines, 100 locks, one client: Lock+Unlock/s", scenario: "names",
		metric: namesRate, beside: []part{{namesCPU, "CPU %s µs each"}}},
	{head: "100 goroutines, one process: acquisitions/s", scenario: "herd", metric: acquisitions},
	{head: "the same, handing on", scenario: "handing-on", metric: handedOn,
		beside: []part{{handedOnRival, "with a rival %s"},
			{rivalLongest, "which waits %s ms at most"}}},
	{head: "64 goroutines, 8 members, held for 5 ms each: acquisitions/s", scenario: "pool",
		metric: poolRate, beside: []part{{poolBusy, "members busy %s %%"},
			{poolLate, "wait p99.9 %s ms"}, {poolLongest, "longest %s ms"},
			{poolSpread, "shares differ by %s %%"}, {poolCPU, "CPU %s µs each"}}},
	{head: "50 idle waiters: requests or messages/s", scenario: "idle", metric: idleRequests},
}

// print prints the report, in Markdown.
func (r *results) print(w io.Writer) {
	fmt.Fprintf(w, "Measured on %s with `%s`, in %v: %s; load average before: %s. "+
		"The median of %d runs, and the least and the most of them.\n\n",
		r.began.Format(time.DateOnly), commandLine(), r.took.Round(
			time.Second), machine(), r.load, len(r.runs))
	r.table(w)
	r.notes(w)
	r.verdicts(w)
	for _, f := range r.failures {
		fmt.Fprintf(w, "- FAILED: %s\n", f.text)
	}
}

func commandLine() string { return strings.Join(append([]string{"go run ."}, os.Args[1:]...), " ") }

func (r *results) table(w io.Writer) {
	var used []column
	for _, c := range columns {
		if slices.ContainsFunc(r.scenarios, func(s scenario) bool { return s.name == c.scenario }) {
			used = append(used, c)
		}
	}
	head, rule := "| |", "|---|"
	for _, c := range used {
		head, rule = head+" "+c.head+" |", rule+"---|"
	}
	fmt.Fprintln(w, head)
	fmt.Fprintln(w, rule)
	for _, row := range r.rows {
		if row.service == nil {
			continue
		}
		cells := "| " + row.label + " |"
		for _, c := range used {
			cells += " " + r.cell(row.name, c) + " |"
		}
		fmt.Fprintln(w, cells)
	}
	fmt.Fprintln(w)
}

func (r *results) cell(peer string, c column) string {
	values := r.values(peer, c.metric)
	if len(values) == 0 {
		if slices.ContainsFunc(r.failures,
			func(f failure) bool { return f.key == key{peer, c.scenario} }) {
			return "failed"
		}
		return ""
	}
	unit := max(c.unit, 1)
	text := "**" + number(median(values)/unit) + "**"
	if len(values) > 1 {
		text += " (" + number(slices.Min(values)/unit) + "–" + number(slices.Max(values)/unit) + ")"
	}
	for _, b := range c.beside {
		if values := r.values(peer, b.metric); len(values) > 0 {
			text += "; " + fmt.Sprintf(b.format, number(median(values)/unit))
		}
	}
	return text
}

// number formats v with at least three digits.
func number(v float64) string {
	switch size := math.Abs(v); {
	case size >= 10_000:
		return fmt.Sprintf("%d,%03d", int(v+0.5)/1000, int(v+0.5)%1000)
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size == 0:
		return "0"
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// notes prints what a reader must know to be fair.
func (r *results) notes(w io.Writer) {
	var versions, missing, inMemory []string
	for _, row := range r.rows {
		if row.service == nil {
			missing = append(missing, row.name+" ("+row.absent+")")
			continue
		}
		if v := row.service.version(); v != "" && !slices.Contains(versions, v) {
			versions = append(versions, v)
		}
		if row.store == "memory" {
			inMemory = append(inMemory, row.label)
		}
		for _, note := range row.notes {
			fmt.Fprintf(w, "- %s: %s\n", row.name, note)
		}
	}
	if len(inMemory) > 0 {
		fmt.Fprintf(w, "- A crash of the server loses the locks of: %s. "+
			"The others write each lock to the disk before they reply.\n",
			strings.Join(inMemory, "; "))
	}
	fmt.Fprintf(w, "- No two holders overlapped in any scenario, except where it says so.\n")
	if len(versions) > 0 {
		fmt.Fprintf(w, "- Versions: %s.\n", strings.Join(versions, "; "))
	}
	if len(missing) > 0 {
		fmt.Fprintf(w, "- Absent: %s.\n", strings.Join(missing, "; "))
	}
	fmt.Fprintln(w)
}

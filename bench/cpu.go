package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of processor time in /proc.
const tick = 10 * time.Millisecond

// tree returns the processes that descend from the keeper of p, as /proc knows them; none where
// there is no /proc.
func (p *process) tree() []int {
	parents := make(map[int]int)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := stat(pid); fields != nil {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	tree := []int{p.keeper.Process.Pid}
	for i := 0; i < len(tree); i++ {
		for pid, parent := range parents {
			if parent == tree[i] {
				tree = append(tree, pid)
			}
		}
	}
	return tree[1:]
}

// stat returns the fields of /proc/PID/stat from the third, the state, on; nil for no process.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// The second field, the name in brackets, may have spaces and brackets.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return nil
	}
	return fields
}

// meter measures the processor time of this process and of some others.
type meter struct {
	pids   []int
	before time.Duration
}

func newMeter(pids []int) meter {
	m := meter{pids: slices.Clone(pids)}
	m.before = m.sum()
	return m
}

// used returns the processor time since the meter was made. Processes that have ended do not count.
func (m meter) used() time.Duration { return m.sum() - m.before }

func (m meter) sum() time.Duration {
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) != nil {
		return 0
	}
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	for _, pid := range m.pids {
		fields := stat(pid)
		if fields == nil {
			continue
		}
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		sum += time.Duration(user+system) * tick
	}
	return sum
}

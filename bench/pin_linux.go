package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// processors returns the processors that this process may use.
func processors() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var all []int
	for i := range 1024 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all
}

// pin lets processes run on these processors only, with all of their threads. What they start
// later inherits it.
func pin(pids []int, processors ...int) error {
	var set unix.CPUSet
	for _, p := range processors {
		set.Set(p)
	}
	for _, pid := range pids {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			continue // it has ended
		}
		for _, t := range threads {
			id, _ := strconv.Atoi(t.Name())
			err := unix.SchedSetaffinity(id, &set)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pinning process %d: %w", pid, err)
			}
		}
		if pid == os.Getpid() {
			runtime.SetDefaultGOMAXPROCS()
		}
	}
	return nil
}

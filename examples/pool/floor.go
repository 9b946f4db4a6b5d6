package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const workers, jobs = 12, 2 // jobs of each

// floor has three benches, which are alike. It records who uses them.
type floor struct {
	prefix string // of the names of the locks
	began  time.Time

	mu      sync.Mutex
	benches [3]bench
	clashes int
	waits   []time.Duration // of the user
}

type bench struct {
	user string // who uses it now; "": nobody does
	uses map[string]int
}

func newFloor(prefix string) *floor {
	f := &floor{prefix: prefix, began: time.Now()}
	for i := range f.benches {
		f.benches[i].uses = make(map[string]int)
	}
	return f
}

// names returns the names of the locks of the benches.
func (f *floor) names() []string {
	names := make([]string, len(f.benches))
	for i := range names {
		names[i] = fmt.Sprintf("%s.%d", f.prefix, i+1)
	}
	return names
}

// use uses the bench with this lock for d, or until ctx is done, and returns the cause of that.
func (f *floor) use(ctx context.Context, lock, who string, d time.Duration) error {
	number := int(lock[len(lock)-1] - '0')
	b := &f.benches[number-1]
	f.mu.Lock()
	if b.user != "" {
		f.clashes++
	}
	b.user = who
	kind, _, _ := strings.Cut(who, " ")
	b.uses[kind]++
	fmt.Printf("%5.2f s  bench %d: %s\n", time.Since(f.began).Seconds(), number, who)
	f.mu.Unlock()
	pause(ctx, d)
	f.mu.Lock()
	defer f.mu.Unlock()
	b.user = ""
	return context.Cause(ctx)
}

func (f *floor) userWaited(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waits = append(f.waits, d)
}

// verdict says how the benches were used, and returns an error if that was not as it should be.
func (f *floor) verdict(w io.Writer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintln(w)
	done := 0
	for i, b := range f.benches {
		done += b.uses["worker"]
		fmt.Fprintf(w, "bench %d: %2d jobs of workers, %d of the user, %d of the soak\n",
			i+1, b.uses["worker"], b.uses["user"], b.uses["soak"])
	}
	for i, d := range f.waits {
		from := [...]string{"the soak, which gave way", "the workers, before all that waited"}[i%2]
		fmt.Fprintf(w, "the user had a bench after %v from %s\n", d.Round(time.Millisecond), from)
	}
	var err error
	if f.clashes > 0 {
		err = fmt.Errorf("%d times two used one bench at a time", f.clashes)
	}
	if done != workers*jobs {
		err = errors.Join(err, fmt.Errorf("%d of %d jobs were done", done, workers*jobs))
	}
	if len(f.waits) > 0 && f.waits[0] > time.Second {
		err = errors.Join(err, errors.New("the soak did not give way within a second"))
	}
	if err == nil {
		fmt.Fprintln(w, "no bench was used by two at a time")
	}
	return err
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

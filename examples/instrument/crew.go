package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// deleteAfter is how long a lock has been held when the program deletes it. The
// holder learns of deletions from its first heartbeat on, after about 1 s.
const deleteAfter = 1500 * time.Millisecond

// config is what the flags say.
type config struct {
	unguarded bool
	url, key  string
	duration  time.Duration
}

// crew is the worker processes, seen from the process that starts them.
type crew struct {
	config
	client     *api.Client
	instrument string // address
	lock       string // name; empty: unguarded
}

// work starts the processes and waits until all have ended. When ctx is done or
// one of them fails, it asks the others to end, and kills those that don't.
func (c *crew) work(ctx context.Context, events chan<- event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	failed := make([]error, processes)
	for i := range failed {
		wg.Go(func() {
			if err := c.process(ctx, i+1, events); err != nil {
				failed[i] = fmt.Errorf("worker process %d: %w", i+1, err)
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// process runs one worker process, which is this program with other arguments.
func (c *crew) process(ctx context.Context, number int, events chan<- event) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self,
		"-worker", fmt.Sprint(number), "-instrument", c.instrument, "-lock", c.lock,
		"-duration", c.duration.String())
	// The key is not an argument: everybody on a machine can read those.
	cmd.Env = append(os.Environ(), "RELUKKO_BASE_URL="+c.url, "RELUKKO_API_KEY="+c.key)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// A worker ends at the end of its standard input. That leaves it the time to
	// release its lock, and it happens also when this process is killed.
	cmd.Cancel = stdin.Close
	cmd.WaitDelay = 15 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}

	var deleting sync.WaitGroup
	for lines := json.NewDecoder(stdout); ; {
		var e event
		if err := lines.Decode(&e); err != nil {
			if !errors.Is(err, io.EOF) {
				stdin.Close()
			}
			break
		}
		events <- e
		if e.Kind == holding && e.Long && c.lock != "" {
			deleting.Go(func() { c.deleteByHand(ctx, e, events) })
		}
	}
	deleting.Wait()
	err = cmd.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) { // it was asked to end
		return nil
	}
	return err
}

// deleteByHand deletes a lock while it is held, as anybody with the API key can do.
func (c *crew) deleteByHand(ctx context.Context, held event, events chan<- event) {
	if pause(ctx, deleteAfter) != nil {
		return
	}
	e := event{At: time.Now(), Kind: deleted, Who: held.Who}
	if _, err := c.client.Delete(ctx, held.Lock); err != nil {
		e.Lost = err.Error()
	}
	events <- e
}

package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/tasks"
)

// closeTime is how long [Client.Close] waits.
const closeTime = 10 * time.Second

// Close is [Client.Shutdown] for at most 10 s.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return c.Shutdown(ctx)
}

// Shutdown ends the client. From its beginning on public calls and new Watches
// return [ErrClosed]. It waits until what is held by the mutexes of this
// client is released and what they clean up is cleaned up, and for the calls
// under way. When ctx ends before that, the rest is ended, and the error says
// what it was: "relukko: closed with 2 unfinished: …". The Watches end last,
// since those who hold a lock need them.
//
// Afterwards no goroutine, timer or connection of the client is left. A
// Transport that was given by [WithHTTPClient] keeps its idle connections. A
// second Shutdown waits for the first, hastens it where its ctx ends earlier, and
// returns the same.
func (c *Client) Shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.giveUp)
	defer stop()
	if !c.calls.beginClose() {
		<-c.closed
		return c.closeErr
	}
	left := c.tasks.Close(c.patience)
	left = append(left, c.calls.close(c.patience)...)
	c.watches.close()
	if w := c.transport(); w.own {
		w.client.CloseIdleConnections()
	}
	if len(left) > 0 {
		c.closeErr = fmt.Errorf("relukko: closed with %d unfinished: %s", len(left), strings.Join(left, "; "))
	}
	c.giveUp() // patience has served
	close(c.closed)
	return c.closeErr
}

// calls are the calls under way.
type calls struct {
	closing chan struct{} // closed when Close begins: only tasks may call now
	over    chan struct{} // closed when nobody may call any more

	mu    sync.Mutex
	under map[*call]struct{}
	idle  chan struct{} // non-nil while close waits; closed when no call is left
}

func newCalls() *calls {
	return &calls{closing: make(chan struct{}), over: make(chan struct{}), under: make(map[*call]struct{})}
}

// refused is ErrClosed when a call with ctx may not go on.
func (c *calls) refused(ctx context.Context) error {
	select {
	case <-c.over:
		return ErrClosed
	default:
	}
	select {
	case <-c.closing:
		if !tasks.Permitted(ctx) {
			return ErrClosed
		}
	default:
	}
	return nil
}

// begin enters k. It is left by end.
func (c *calls) begin(ctx context.Context, k *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refused(ctx); err != nil {
		return err
	}
	k.untilClose = tasks.IsUntilClose(ctx)
	c.under[k] = struct{}{}
	return nil
}

// attempt notes how to end the attempt of k that begins now.
func (c *calls) attempt(k *call, cancel context.CancelFunc) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isOver() || k.untilClose && c.isClosing() {
		return ErrClosed
	}
	k.cancel = cancel
	return nil
}

func (c *calls) end(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.under, k)
	if len(c.under) == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// isOver reports whether close has ended what was left.
func (c *calls) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// sleep returns nil after d, or earlier with the reason why there is no going on.
func (c *calls) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	closing := c.closing
	if tasks.Permitted(ctx) {
		closing = nil
	}
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return over(ctx)
	case <-closing:
	case <-c.over:
	}
	return ErrClosed
}

// beginClose reports whether this is the first Close.
func (c *calls) beginClose() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosing() {
		return false
	}
	close(c.closing)
	for k := range c.under {
		if k.untilClose && k.cancel != nil {
			k.cancel()
		}
	}
	return true
}

func (c *calls) isClosing() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// close waits for the calls under way until ctx ends, then ends them and says which.
func (c *calls) close(ctx context.Context) (abandoned []string) {
	select {
	case <-c.wait():
	case <-ctx.Done():
	}
	c.mu.Lock()
	close(c.over)
	for k := range c.under {
		abandoned = append(abandoned, k.op())
		if k.cancel != nil {
			k.cancel()
		}
	}
	c.mu.Unlock()
	slices.Sort(abandoned)
	<-c.wait()
	return abandoned
}

// wait returns a channel that is closed once no call is under way.
func (c *calls) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	idle := c.idle
	if idle == nil {
		idle = make(chan struct{})
		if len(c.under) == 0 {
			close(idle)
		} else {
			c.idle = idle
		}
	}
	return idle
}

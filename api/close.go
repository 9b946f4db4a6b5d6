package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lifecycle"
)

func init() {
	lifecycle.Of = func(client any) *lifecycle.Group { return client.(*Client).under }
}

// closeTime is how long [Client.Close] waits.
const closeTime = 10 * time.Second

// Close is [Client.Shutdown] for at most 10 s.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return c.Shutdown(ctx)
}

// Shutdown closes the client. A waiting Lock of a mutex of this client returns [ErrClosed], as
// every later Lock does. Held locks are still renewed and can be unlocked, and cleanups go on.
// Shutdown waits for both, and then for the calls that are under way. Once no lock is held and no
// cleanup is left, new calls and Watches return ErrClosed too. Existing Watches end last.
//
// If ctx ends first, the rest is abandoned, and the error names it: "relukko: closed with 2
// unfinished: …". The error is nil otherwise.
//
// Afterwards no goroutine, timer or connection of the client is left, but a Transport given with
// [WithHTTPClient] keeps its idle connections. A second Shutdown waits for the first and returns
// the same; if its own ctx ends, the first ends too.
func (c *Client) Shutdown(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.giveUp)
	defer stop()
	if c.closing.Swap(true) {
		<-c.closed
		return c.closeErr
	}
	left := c.under.Close(c.patience)
	c.watches.close()
	c.transport().close()
	if len(left) > 0 {
		c.closeErr = fmt.Errorf("relukko: closed with %d unfinished: %s",
			len(left), strings.Join(left, "; "))
	}
	c.giveUp() // patience has served
	close(c.closed)
	return c.closeErr
}

// begin records k as under way until the group's End.
func (c *Client) begin(k *call) error { return c.under.Call(k) }

// Describe and Abandon are for the group of what is under way.
func (k *call) Describe() string { return k.op() }

func (k *call) Abandon() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.abandoned = true
	if k.cancel != nil {
		k.cancel()
	}
}

// attempting notes how to end the attempt that begins now.
func (k *call) attempting(cancel context.CancelFunc) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.abandoned {
		return ErrClosed
	}
	k.cancel = cancel
	return nil
}

// sleep returns nil after d, or earlier with the reason why there is no going on.
func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return over(ctx)
	case <-c.under.Open().Done():
		return ErrClosed
	}
}

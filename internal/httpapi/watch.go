package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/reply"
)

const (
	pingEvery    = 30 * time.Second
	watchTimeout = 10 * time.Second // for a message to be taken, or a ping to be answered
	closeTimeout = time.Second      // for a close to be answered
	maxIncoming  = 4 << 10          // bytes of a message from a watcher, which is discarded
	watchBatch   = 64               // messages that are written under one deadline
)

var errSlowWatcher = errors.New("relukko: the watcher is too slow")

// watch upgrades to a WebSocket and sends all broadcasts from then on. It disconnects slow
// watchers, and those whose key is gone.
func (a *api) watch(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	upgrade, ok := a.upgrade(w, client)
	if !ok {
		return
	}
	defer upgrade.end()
	sub := a.broadcast.subscribe() // before the client knows that it is connected
	defer sub.close()
	// Browsers cannot send X-API-KEY with a WebSocket, so no page can misuse a user's key, and the
	// origin does not matter.
	insecure := &websocket.AcceptOptions{InsecureSkipVerify: true}
	conn, err := websocket.Accept(upgrade, r, insecure)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxIncoming)

	ctx, cancel := context.WithCancel(a.cut)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel() // closes the connection for the helpers
	helpers.Go(func() {
		discard(ctx, conn)
		cancel()
		_ = conn.CloseNow() // also for a write that is under way
	})
	err = a.send(ctx, client, conn, sub, &helpers)
	defer time.AfterFunc(closeTimeout, cancel).Stop()
	switch {
	case errors.Is(err, errSlowWatcher):
		if a.Observer != nil {
			a.Observer.WatcherDropped()
		}
		_ = conn.Close(websocket.StatusTryAgainLater, "too slow")
	case errors.Is(err, guard.ErrKeyGone):
		_ = conn.Close(websocket.StatusPolicyViolation, "401: "+reply.Refuse(err, "").Message)
	case err == nil:
		_ = conn.Close(websocket.StatusGoingAway, "the server is shutting down")
	}
}

// send writes messages and pings. It returns nil when the server stops.
func (a *api) send(
	ctx context.Context, client *guard.Client, conn *websocket.Conn, sub *subscription,
	helpers *sync.WaitGroup,
) error {
	pings := time.NewTicker(pingEvery)
	defer pings.Stop()
	// One timer for all messages: a context for each would cost more than all but the write.
	var slow atomic.Bool
	late := time.AfterFunc(watchTimeout, func() {
		slow.Store(true)
		_ = conn.CloseNow()
	})
	late.Stop()
	defer late.Stop()
	var batch [watchBatch][]byte
	for {
		key, replaced := client.Key()
		if key == nil {
			return guard.ErrKeyGone
		}
		n, more, ok := sub.take(batch[:])
		if !ok {
			return errSlowWatcher
		}
		if n > 0 {
			late.Reset(watchTimeout)
			for _, message := range batch[:n] {
				err := conn.Write(context.Background(), websocket.MessageText, message)
				switch {
				case err != nil && slow.Load():
					return errSlowWatcher
				case err != nil:
					return err
				}
			}
			late.Stop()
			continue
		}
		select {
		case <-more:
		case <-replaced:
		case <-pings.C:
			helpers.Go(func() { // messages do not wait for the pong
				ctx, cancel := context.WithTimeout(ctx, watchTimeout)
				defer cancel()
				if conn.Ping(ctx) != nil {
					_ = conn.CloseNow()
				}
			})
		case <-ctx.Done():
			return ctx.Err()
		case <-a.stopped.Done():
			return nil
		}
	}
}

// discard reads what the watcher sends until the connection ends, so that pongs and closes are
// seen.
func discard(ctx context.Context, conn *websocket.Conn) {
	for {
		_, message, err := conn.Reader(ctx)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return
		}
	}
}

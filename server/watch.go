package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	pingEvery    = 30 * time.Second
	watchTimeout = 10 * time.Second // for a message to be taken, or a ping to be answered
	closeTimeout = time.Second      // for a close to be answered
	maxIncoming  = 4 << 10          // bytes of a message from a watcher; nobody reads it
	watchBatch   = 64               // messages that are written under one deadline
)

var errSlowWatcher = errors.New("relukko: the watcher is too slow")

// watch upgrades to a WebSocket and sends all broadcasts from then on. A slow watcher is disconnected, never waited for.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	sub := s.hub.subscribe() // before the caller knows that he is connected, so that he misses nothing from then on
	if sub == nil {
		s.unavailable(w, "too many watchers")
		return
	}
	defer sub.close()
	answer := &upgradeAnswer{ResponseWriter: w}
	// Browsers can't send X-API-KEY with a WebSocket, so no page can misuse somebody's credentials: the origin says nothing.
	conn, err := websocket.Accept(answer, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		answer.finish()
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxIncoming)

	ctx, cancel := context.WithCancel(s.cut)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel() // closes the connection for those who still read or write
	helpers.Go(func() {
		discard(ctx, conn)
		cancel()
		_ = conn.CloseNow() // also for a write that is under way
	})
	err = s.send(ctx, conn, sub, &helpers)
	defer time.AfterFunc(closeTimeout, cancel).Stop()
	switch {
	case errors.Is(err, errSlowWatcher):
		_ = conn.Close(websocket.StatusTryAgainLater, "too slow")
	case err == nil:
		_ = conn.Close(websocket.StatusGoingAway, "the server is shutting down")
	}
}

// send writes messages and pings. It returns nil when the server stops.
func (s *Server) send(ctx context.Context, conn *websocket.Conn, sub *subscription, helpers *sync.WaitGroup) error {
	pings := time.NewTicker(pingEvery)
	defer pings.Stop()
	// One timer for all messages: a context for each would cost more than anything but the write itself.
	late := time.AfterFunc(watchTimeout, func() { _ = conn.CloseNow() })
	late.Stop()
	defer late.Stop()
	var batch [watchBatch][]byte
	for {
		n, news, ok := sub.take(batch[:])
		if !ok {
			return errSlowWatcher
		}
		if n > 0 {
			late.Reset(watchTimeout)
			for _, message := range batch[:n] {
				if err := conn.Write(context.Background(), websocket.MessageText, message); err != nil {
					return err
				}
			}
			late.Stop()
			continue
		}
		select {
		case <-news:
		case <-pings.C:
			helpers.Go(func() { // messages don't wait for the pong
				ctx, cancel := context.WithTimeout(ctx, watchTimeout)
				defer cancel()
				if conn.Ping(ctx) != nil {
					_ = conn.CloseNow()
				}
			})
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped.Done():
			return nil
		}
	}
}

// discard reads what the watcher sends, which must be read for pongs and closes to be seen, until the connection ends.
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

// upgradeAnswer turns the plain text of a refused upgrade into the JSON of all other errors.
type upgradeAnswer struct {
	http.ResponseWriter
	status int
	text   strings.Builder
}

func (a *upgradeAnswer) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		a.ResponseWriter.WriteHeader(status)
		return
	}
	a.status = status
}

func (a *upgradeAnswer) Write(p []byte) (int, error) { return a.text.Write(p) }

// Unwrap lets the WebSocket take over the connection.
func (a *upgradeAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *upgradeAnswer) finish() {
	if a.status != 0 {
		writeError(a.ResponseWriter, a.status, strings.TrimSpace(a.text.String()))
	}
}

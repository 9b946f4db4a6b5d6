package web

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	frameEvery   = 250 * time.Millisecond // at most so often
	aliveEvery   = 10 * time.Second       // at least so often, so that a page knows that it is live
	takeTimeout  = 10 * time.Second       // for a frame to be taken
	closeTimeout = time.Second            // for a close to be answered
	maxIncoming  = 1 << 10                // bytes of a message from a page, which is discarded
)

// frame is a message to a page.
type frame struct {
	Now       time.Time `json:"now"`
	Full      bool      `json:"full,omitempty"`
	Locks     []ownRow  `json:"locks"`
	Gone      []string  `json:"gone,omitempty"`
	SignedOut bool      `json:"signed_out,omitempty"`
}

// ownRow is a row as one visitor sees it.
type ownRow struct {
	row
	Mine bool `json:"mine,omitempty"`
	May  may  `json:"may"`
}

// live sends the locks, and what changes about them, over a WebSocket. One who may not read is told
// so there, as a script in a browser cannot see the status of a refusal.
func (p *Page) live(w http.ResponseWriter, r *http.Request) {
	// Accept compares Origin with Host, so that a page of another site cannot use the cookie.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		CompressionMode: websocket.CompressionNoContextTakeover,
	})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxIncoming)
	ctx, cancel := context.WithCancel(p.Cut)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer cancel() // closes the connection for the reader
	reader.Go(func() {
		defer cancel()
		for {
			_, message, err := conn.Reader(ctx)
			if err == nil {
				_, err = io.Copy(io.Discard, message)
			}
			if err != nil {
				return
			}
		}
	})
	over := p.feed(ctx, conn, r)
	defer time.AfterFunc(closeTimeout, cancel).Stop()
	if over {
		_ = conn.Close(websocket.StatusGoingAway, "the server is shutting down")
	}
}

// feed sends frames until the visitor is gone or signed out. It reports whether that is because the
// server stops.
func (p *Page) feed(ctx context.Context, conn *websocket.Conn, r *http.Request) (over bool) {
	leave := p.board.watch()
	defer leave()
	version := uint64(0)
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for due := true; ; {
		v, ok := p.visitor(r)
		if !ok {
			_ = send(ctx, conn, frame{SignedOut: true})
			_ = conn.Close(websocket.StatusPolicyViolation, "signed out")
			return false
		}
		replaced := v.replaced()
		c := p.board.since(version)
		if due || c.version != version {
			if send(ctx, conn, frame{Full: c.full, Gone: c.gone, Locks: p.own(v, c.rows)}) != nil {
				return false
			}
			version, due = c.version, false
		}
		select {
		case <-time.After(frameEvery):
		case <-ctx.Done():
			return false
		}
		select {
		case <-c.more:
		case <-replaced: // what the visitor may do may have changed
			version = 0
		case <-v.ended():
		case <-v.over():
		case <-alive.C:
			due = true
		case <-ctx.Done():
			return false
		case <-p.Stopped.Done():
			return true
		}
	}
}

// send sends one frame.
func send(ctx context.Context, conn *websocket.Conn, f frame) error {
	f.Now = time.Now().UTC()
	message, err := json.Marshal(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, message)
}

// own returns the rows as a visitor sees them.
func (p *Page) own(v visitor, rows []row) []ownRow {
	out := make([]ownRow, len(rows))
	for i := range rows {
		out[i] = p.ownRow(v, rows[i])
	}
	return out
}

func (p *Page) ownRow(v visitor, r row) ownRow {
	return ownRow{r, v.client != nil && v.client.Name() == r.Owner, v.may(&r)}
}

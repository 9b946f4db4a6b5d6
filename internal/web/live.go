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
	aliveEvery   = 5 * time.Second        // at least so often, so that a page knows that it is live
	takeTimeout  = 10 * time.Second       // for a frame to be taken
	closeTimeout = time.Second            // for a close to be answered
	maxIncoming  = 1 << 10                // bytes of a message from a page, which is discarded
)

// frame is a message to a page.
type frame struct {
	Now       time.Time `json:"now"`
	Locks     []ownRow  `json:"locks"`
	Gone      []string  `json:"gone,omitempty"`
	SignedOut bool      `json:"signed_out,omitempty"`
	*opening
}

// opening is in a frame that has all locks. The page loads itself anew where it says something else
// than before.
type opening struct {
	Full    bool   `json:"full"`
	User    string `json:"user"`
	Role    string `json:"role"`
	Version string `json:"version"`
}

// live sends the locks, and what changes about them, over a WebSocket.
func (p *Page) live(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.visitor(r); !ok {
		http.Error(w, notSignedIn, http.StatusUnauthorized)
		return
	}
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

// feed sends frames until the visitor is gone or signed out, which the last frame says. It reports
// whether it ends because the server stops.
func (p *Page) feed(ctx context.Context, conn *websocket.Conn, r *http.Request) (over bool) {
	leave := p.board.watch()
	defer leave()
	name, version := r.URL.Query().Get("name"), uint64(0)
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for due := false; ; {
		v, ok := p.visitor(r)
		if !ok {
			_ = send(ctx, conn, frame{Locks: []ownRow{}, SignedOut: true})
			_ = conn.Close(websocket.StatusPolicyViolation, "signed out")
			return false
		}
		replaced, ended := v.watch()
		c := p.board.since(version, name)
		if f := p.frameOf(v, &c); due || f.opening != nil || len(f.Locks)+len(f.Gone) > 0 {
			if send(ctx, conn, f) != nil {
				return false
			}
			due = false
			select {
			case <-time.After(frameEvery):
			case <-ctx.Done():
				return false
			}
		}
		version = c.version
		select {
		case <-c.more:
		case <-replaced:
			version = 0 // what the visitor may do may have changed
		case <-ended:
			version = 0
		case <-alive.C:
			due = true
		case <-ctx.Done():
			return false
		case <-p.Stopped.Done():
			return true
		}
	}
}

// frameOf returns what has changed, as a visitor sees it.
func (p *Page) frameOf(v visitor, c *changes) frame {
	f := frame{Gone: c.gone, Locks: make([]ownRow, len(c.rows))}
	for i := range c.rows {
		f.Locks[i] = v.own(c.rows[i])
	}
	if c.full {
		user, role := v.nameAndRole()
		f.opening = &opening{true, user, role, staticPath()}
	}
	return f
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

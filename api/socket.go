package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/coder/websocket"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	pingEvery = 10 * time.Second
	pingTime  = 5 * time.Second // until a connection that does not answer is given up

	politeTime = 250 * time.Millisecond // for the other side to say goodbye too
	healthyFor = time.Second            // a connection that lasted as long resets the backoff

	maxMessageBytes = 1 << 20 // of one broadcast

	reconnectMin = 100 * time.Millisecond // all waits are up to a half shorter or longer
	reconnectMax = 5 * time.Second
	absentMax    = time.Minute // where something answers that is no WebSocket
)

// socket is the one WebSocket of a client, with all its reconnections.
type socket struct {
	transport func() *transport
	log       *slog.Logger
	publish   func(*socket, Event)
	cancel    context.CancelFunc
	done      chan struct{} // closed when nothing of it is left
	said      string        // the state that was last logged
}

func startSocket(t func() *transport, log *slog.Logger, publish func(*socket, Event)) *socket {
	ctx, cancel := context.WithCancel(context.Background())
	s := &socket{
		transport: t, log: log, publish: publish, cancel: cancel, done: make(chan struct{}),
	}
	go s.run(ctx)
	return s
}

// close returns when the connection and all goroutines are gone.
func (s *socket) close() {
	s.cancel()
	<-s.done
}

func (s *socket) run(ctx context.Context) {
	defer close(s.done)
	waits := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(reconnectMin),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(0),
	)
	for ctx.Err() == nil {
		longest := reconnectMax
		conn, status, err := s.dial(ctx)
		switch {
		case err == nil:
			s.publish(s, Event{Kind: EventConnected})
			s.note("connected")
			since := time.Now()
			err = s.serve(ctx, conn)
			if time.Since(since) >= healthyFor {
				waits.Reset()
			}
			if ctx.Err() != nil {
				return
			}
			s.note("connection lost", "err", s.transport().cleanError(err))
		case ctx.Err() != nil:
			return
		case status != 0 && status < 500:
			longest = absentMax
			s.note("no WebSocket here, watching goes without push", "status", status)
		default:
			s.note("cannot connect", "err", err)
		}
		s.publish(s, Event{Kind: EventDisconnected})

		waits.MaxInterval = longest * 2 / 3
		t := time.NewTimer(min(waits.NextBackOff(), longest))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// note logs the state when it is not what was last logged.
func (s *socket) note(state string, args ...any) {
	if s.said != state {
		s.said = state
		s.log.LogAttrs(context.Background(), slog.LevelDebug, "relukko: broadcast: "+state,
			slog.Group("", args...))
	}
}

// connection is a WebSocket and the connection below it, whose Close never waits.
type connection struct {
	*websocket.Conn
	below *batches
	reads *interruptible // below that
	creds *credentials   // with which it was opened
}

// dial opens a WebSocket. status is 0 when nothing answered at all.
func (s *socket) dial(ctx context.Context) (conn *connection, status int, err error) {
	conn, err = s.transport().dialSocket(ctx, "/ws/broadcast", "")
	if err != nil {
		if e, ok := err.(*Error); ok {
			status = e.Status
		}
		return nil, status, err
	}
	conn.SetReadLimit(maxMessageBytes)
	return conn, 0, nil
}

// dialSocket opens the WebSocket at path. The error is an *Error or a *failure.
func (t *transport) dialSocket(
	ctx context.Context, path, protocol string,
) (*connection, error) {
	op := "open the WebSocket " + path
	bounded, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	before := t.keys.now.Load()
	creds, err := t.keys.renew(bounded, before) // a connection may outlive many keys
	if err != nil {
		return nil, &failure{
			op: op, err: t.cleanError(err), transient: before != nil, notSent: true,
		}
	}
	client := *t.client
	below := &lower{transport: client.Transport}
	bounded = httptrace.WithClientTrace(bounded, below.trace())
	client.Transport = below
	defer below.release()
	opts := &websocket.DialOptions{HTTPClient: &client, HTTPHeader: creds.plain}
	if protocol != "" {
		opts.Subprotocols = []string{protocol}
	}
	ws, resp, err := websocket.Dial(bounded, withPath(t.base, path).String(), opts)
	switch {
	case err == nil:
		return &connection{Conn: ws, below: below.conn, reads: below.reads, creds: creds}, nil
	case resp != nil && bounded.Err() == nil:
		return nil, t.noSocket(op, resp, err)
	case ctx.Err() == nil && bounded.Err() != nil:
		late := attemptTimeout(attemptTime)
		return nil, &failure{op: op, err: late, transient: true, notSent: true}
	}
	err = explain(unwrapDial(err))
	return nil, &failure{
		op: op, err: t.cleanError(err), transient: ctx.Err() == nil && !unverified(err),
		notSent: true,
	}
}

// unwrapDial removes what package websocket puts before an error of package http.
func unwrapDial(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u
	}
	return err
}

// noSocket returns the error for a response that opens no WebSocket.
func (t *transport) noSocket(op string, resp *http.Response, err error) error {
	e := &Error{Op: op, Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	if e.Status == http.StatusSwitchingProtocols {
		e.Message = t.clean(err.Error())
		return e
	}
	body, _ := io.ReadAll(resp.Body) // its first 1024 bytes
	e.read(body, false)
	e.Message = t.clean(e.Message)
	return e
}

// lower keeps the connection below a WebSocket, and closes it when the
// handshake takes too long: what follows a 101 does not obey a context.
type lower struct {
	transport http.RoundTripper
	socket    net.Conn // where its reads can be interrupted; else nil
	conn      *batches
	reads     *interruptible
	stop      func() bool // the closing
}

// trace returns the hooks that find the socket. What another kind of transport does with the
// connections that it reports is not known.
func (l *lower) trace() *httptrace.ClientTrace {
	if _, ok := l.transport.(*http.Transport); !ok {
		return &httptrace.ClientTrace{}
	}
	return &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { l.socket = got.Conn },
	}
}

func (l *lower) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.transport.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		conn, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			return resp, nil // package websocket refuses it
		}
		l.reads = newInterruptible(conn, l.socket)
		l.conn = &batches{ReadWriteCloser: l.reads}
		resp.Body = l.conn
		l.stop = context.AfterFunc(req.Context(), func() { conn.Close() })
	}
	return resp, err
}

// release ends the handshake: nothing but its owner closes the connection from here on.
func (l *lower) release() {
	if l.stop != nil {
		l.stop()
	}
}

// serve publishes what comes over conn until it breaks or ctx ends. The
// connection is closed then.
func (s *socket) serve(ctx context.Context, conn *connection) error {
	broken := make(chan error, 1)
	reading, stopped := context.WithCancel(ctx)
	go func() {
		broken <- s.read(ctx, conn)
		stopped()
	}()
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-broken:
			conn.CloseNow()
			return err
		case <-ticker.C:
			bounded, cancel := context.WithTimeout(reading, pingTime)
			err := conn.Ping(bounded)
			cancel()
			if err == nil || reading.Err() != nil {
				continue // in the latter case broken has the reason
			}
			conn.CloseNow()
			<-broken
			return err
		case <-ctx.Done():
			cut := time.AfterFunc(politeTime, func() { conn.below.Close() })
			conn.Close(websocket.StatusNormalClosure, "")
			cut.Stop()
			<-broken
			return nil
		}
	}
}

// read publishes what comes over conn, message by message, until it breaks.
func (s *socket) read(ctx context.Context, conn *connection) error {
	emit := func(e wire.Event) { s.publish(s, eventOf(e)) }
	for {
		// Not ctx: at its end serve says goodbye, which needs the answer read.
		_, r, err := conn.Reader(context.Background())
		if err != nil {
			return err
		}
		err = s.transport().read(r, maxMessageBytes, func(message []byte, end error) error {
			if end == nil && ctx.Err() == nil {
				wire.DecodeBroadcast(message, emit)
			}
			return end
		})
		if err != nil {
			return err
		}
	}
}

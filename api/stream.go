package api

import (
	"context"
	"errors"
	"time"

	"github.com/coder/websocket"

	"gitlab.com/relukko/relukko-go/internal/sockets"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

func init() {
	sockets.Of = func(client any) sockets.Opener { return opener{client.(*Client)} }
}

// opener implements [sockets.Opener].
type opener struct{ c *Client }

func (o opener) Allowed() bool { return !o.c.watches.none }

func (o opener) Dial(
	ctx context.Context, path, protocol string, limit int,
) (sockets.Conn, error) {
	t := o.c.transport()
	conn, err := t.dialSocket(ctx, path, protocol)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(int64(limit))
	return &messages{connection: conn, transport: o.c.transport}, nil
}

func (o opener) OtherKey(ctx context.Context, conn sockets.Conn) bool {
	keys := o.c.transport().keys
	used := conn.(*messages).creds
	now, err := keys.renew(ctx, used)
	return err == nil && now != used
}

func (o opener) Refusal(op string, oneLock bool, said *wire.StreamError) error {
	e := &Error{
		Op: op, Status: said.Status, Own: true, oneLock: oneLock,
		Message: o.c.transport().clean(said.Message),
	}
	if said.Lock != nil {
		holder := lockOf(said.Lock)
		e.Holder = &holder
	}
	return e
}

func (o opener) Failure(op string, err error, notSent bool) error {
	return &failure{op: op, err: err, transient: true, notSent: notSent}
}

// messages implements [sockets.Conn].
type messages struct {
	*connection
	transport func() *transport
	buffer    []byte
}

func (m *messages) Read() ([]byte, error) {
	err := m.read()
	switch {
	case err == nil:
		return m.buffer, nil
	case errors.Is(err, sockets.ErrInterrupted):
		return nil, err
	}
	m.CloseNow()
	if errors.Is(err, websocket.ErrMessageTooBig) {
		err = sockets.ErrMessage
	}
	return nil, m.transport().cleanError(explain(err))
}

func (m *messages) read() error {
	kind, r, err := m.Reader(context.Background())
	if err != nil {
		return err
	}
	if kind != websocket.MessageText {
		return sockets.ErrMessage
	}
	if cap(m.buffer) > keepBuffer {
		m.buffer = nil
	}
	m.buffer, err = wire.ReadAll(r, m.buffer[:0])
	return err
}

func (m *messages) Write(all [][]byte) error {
	m.below.collect(len(all) > 1)
	for _, message := range all {
		err := m.Conn.Write(context.Background(), websocket.MessageText, message)
		if err != nil {
			return m.transport().cleanError(explain(err))
		}
	}
	if err := m.below.flush(); err != nil {
		return m.transport().cleanError(explain(err))
	}
	return nil
}

func (m *messages) Interruptible() bool { return m.reads.socket != nil }

func (m *messages) Interrupt() { m.reads.interrupt() }

func (m *messages) Close() {
	cut := time.AfterFunc(politeTime, m.Cut)
	defer cut.Stop()
	m.Conn.Close(websocket.StatusNormalClosure, "")
}

func (m *messages) Cut() { m.below.Close() }

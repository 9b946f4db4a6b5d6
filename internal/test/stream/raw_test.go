//go:build linux

package stream

import (
	"context"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// raw is a client of the stream that does only what it is told.
type raw struct {
	t  testing.TB
	ws *websocket.Conn
}

// openRaw opens a stream, which ends with the test, and reads the hello.
func openRaw(t testing.TB, url string) *raw {
	t.Helper()
	transport := &http.Transport{}
	ws, _, err := websocket.Dial(t.Context(), url+wire.StreamPath, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{wire.StreamProtocol},
		HTTPHeader: http.Header{"X-Api-Key": {apiKey}},
	})
	require.NoError(t, err)
	ws.SetReadLimit(wire.MaxFrame)
	t.Cleanup(func() { ws.CloseNow(); transport.CloseIdleConnections() })
	r := &raw{t, ws}
	require.Contains(t, r.next(), "hello")
	return r
}

func (r *raw) write(ctx context.Context, text string) error {
	return r.ws.Write(ctx, websocket.MessageText, []byte(text))
}

func (r *raw) next() string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := r.ws.Read(ctx)
	require.NoError(r.t, err)
	return string(b)
}

// ask sends a request and returns its response, without the messages before it.
func (r *raw) ask(n uint64, text string) (m wire.StreamMessage) {
	r.t.Helper()
	require.NoError(r.t, r.write(r.t.Context(), text))
	return r.answer(n)
}

// answer returns the response to request n.
func (r *raw) answer(n uint64) (m wire.StreamMessage) {
	r.t.Helper()
	for m.N != n || m.Kind == wire.MessageWaiting {
		var err error
		text := r.next()
		m, err = wire.ParseStreamMessage([]byte(text))
		require.NoError(r.t, err, text)
	}
	return m
}

// cut ends the connection without a close frame.
func (r *raw) cut() { r.ws.CloseNow() }

package cli

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Clients that never finish their headers, or ask nothing, are cut off.
func TestSlowAndIdleConnectionsAreCut(t *testing.T) {
	for name, c := range map[string]struct {
		talk func(net.Conn)
		cut  time.Duration
	}{
		"says nothing": {func(net.Conn) {}, headerTimeout},
		"half a header": {func(conn net.Conn) {
			io.WriteString(conn, "GET /healthchecker HTTP/1.1\r\nHost: x\r\nX-A")
		}, headerTimeout},
		"a header that drips": {func(conn net.Conn) {
			io.WriteString(conn, "GET /healthchecker HTTP/1.1\r\nHost: x\r\nX-A: ")
			for range time.Minute / time.Second {
				time.Sleep(time.Second)
				if _, err := io.WriteString(conn, "a"); err != nil {
					return
				}
			}
		}, headerTimeout},
		"idle after an answer": {func(conn net.Conn) {
			io.WriteString(conn, "GET /healthchecker HTTP/1.1\r\nHost: x\r\n\r\n")
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, answer.StatusCode)
			answer.Body.Close()
		}, idleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var network faultnet.Memory
				listener, err := network.Listen("backend")
				require.NoError(t, err)
				store := memstore.New()
				log := slog.New(slog.DiscardHandler)
				s := newService(server.New(store, server.WithAPIKeys("key"),
					server.WithLogger(log)), inMemory{store}, nil, log)
				ctx, end := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- s.run(ctx, listener) }()

				conn, err := network.DialContext(ctx, "", "backend")
				require.NoError(t, err)
				defer conn.Close()
				began := time.Now()
				c.talk(conn)
				io.Copy(io.Discard, conn)
				require.InDelta(t, c.cut.Seconds(), time.Since(began).Seconds(), 1)

				end()
				require.NoError(t, <-ended)
			})
		})
	}
}

// deadStore is one that does not answer: its Close takes as long as the test,
// its Delete a while.
type deadStore struct {
	store.Store
	gone chan struct{}
}

func (d *deadStore) Delete(context.Context, string, store.Ending) (store.Lock, error) {
	time.Sleep(4 * time.Second)
	return store.Lock{}, store.ErrUnavailable
}

func (d *deadStore) Close() error {
	<-d.gone
	return nil
}

// TestServeEndsInTimeWhenTheStoreDoesNotAnswer is about a database that stands
// still, with a request under way.
func TestServeEndsInTimeWhenTheStoreDoesNotAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var network faultnet.Memory
		listener, err := network.Listen("backend")
		require.NoError(t, err)
		store := &deadStore{memstore.New(), make(chan struct{})}
		defer close(store.gone)
		log := slog.New(slog.DiscardHandler)
		s := newService(server.New(store, server.WithAPIKeys("key"), server.WithLogger(log)), store,
			nil, log)
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.run(ctx, listener) }()

		conn, err := network.DialContext(ctx, "", "backend")
		require.NoError(t, err)
		defer conn.Close()
		io.WriteString(conn,
			"DELETE /v1/locks/950daa20-a814-451e-9407-ec496cf9c136 HTTP/1.1\r\n"+
				"Host: x\r\nX-API-KEY: key\r\n\r\n")
		synctest.Wait()
		began := time.Now()
		end()
		require.NoError(t, <-ended)
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

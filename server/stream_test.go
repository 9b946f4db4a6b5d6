package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// send sends a frame on a stream.
func send(t *testing.T, conn *websocket.Conn, format string, args ...any) {
	t.Helper()
	require.NoError(t, conn.Write(
		context.Background(), websocket.MessageText, fmt.Appendf(nil, format, args...)))
}

// acquiring is an acquire that waits.
func acquiring(n int, name, mark string) string {
	return fmt.Sprintf(`{"n":%d,"acquire":{"lock_names":[%q],"creator":"me #%s","lease":60,`+
		`"wait":true}}`, n, name, mark)
}

// TestRefusedStreams: requests that do not become a stream get an error in JSON, before anything
// else happens.
func TestRefusedStreams(t *testing.T) {
	b := start(t)
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	proto := []string{"Sec-WebSocket-Protocol", "relukko.stream.v1"}
	for name, row := range map[string]struct {
		method  string
		headers []string
		status  int
		message string
	}{
		"no key":         {"GET", append([]string{"X-API-KEY", ""}, upgrade...), 403, "X-API-KEY"},
		"not an upgrade": {"GET", proto, 426, "Upgrade"},
		"no subprotocol": {"GET", upgrade, 400, "relukko.stream.v1"},
		"another subprotocol": {"GET",
			append([]string{"Sec-WebSocket-Protocol", "relukko.stream.v2, x"}, upgrade...),
			400, "relukko.stream.v1"},
		"another version": {"GET", append([]string{"Sec-WebSocket-Version", "12"},
			append(proto, upgrade[:4]...)...), 400, "version"},
		"POST": {"POST", append(proto, upgrade...), 405, "GET"},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.do(row.status, row.method, "/v1/stream", "", row.headers...)
			var body struct {
				Status  int
				Message string
			}
			require.NoError(t, json.Unmarshal([]byte(r.body), &body), r.body)
			require.Equal(t, row.status, body.Status)
			require.Contains(t, body.Message, row.message)
		})
	}
}

// TestStreamAndHTTP serve the same locks and one queue.
func TestStreamAndHTTP(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		watch := b.watch()
		held := b.create("arm", "")
		conn := b.stream()
		send(t, conn, "%s", acquiring(1, "arm", "aaaaaaaaaaaa"))
		synctest.Wait()
		time.Sleep(time.Second)
		w := b.wait("arm", "curl #bbbbbbbbbbbb", 30)
		synctest.Wait()

		require.JSONEq(t, `[
			{"lock_names":["arm"],"creator":"me","ip":"192.0.2.7","owner":"default",
				"priority":0,"since":"2000-01-01T00:00:00Z"},
			{"lock_names":["arm"],"creator":"curl","ip":"192.0.2.7","owner":"default",
				"priority":0,"since":"2000-01-01T00:00:01Z"}]`,
			b.do(200, "GET", "/v1/waiting/", "").body)
		require.Equal(t, 2,
			*b.do(200, "GET", "/v1/locks/"+held.ID+"?waiters=1", "").lock(t).Waiters)

		b.delete(held.ID)
		var granted struct{ Lock lock }
		require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &granted))
		require.Equal(t, fmt.Sprintf(`{"wanted":{"id":%q,"waiters":1}}`, granted.Lock.ID),
			next(t, conn))
		send(t, conn, `{"n":2,"release":%q}`, granted.Lock.ID)
		require.Equal(t, `{"n":2,"done":true}`, next(t, conn))
		synctest.Wait()
		w.granted(t)
		require.Len(t, watch.take(), 5, "created, deleted, created, deleted, created")

		send(t, conn, "%s", acquiring(3, "arm2", "cccccccccccc"))
		require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &granted))
		r := b.do(200, "DELETE", "/v1/locks/"+granted.Lock.ID, "")
		require.Equal(t, `{"deleted":`+r.body+`,"by":"default"}`, next(t, conn))
	})
}

// TestShutdownEndsStreams: with a bye, and without waiting for clients that do not listen.
func TestShutdownEndsStreams(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		held := b.create("arm", "")
		conn, deaf := b.stream(), b.stream()
		send(t, conn, "%s", acquiring(1, "arm", "aaaaaaaaaaaa"))
		send(t, deaf, "%s", acquiring(1, "arm", "bbbbbbbbbbbb"))
		synctest.Wait()
		said := make(chan string, 9)
		go func() {
			defer close(said)
			for {
				_, message, err := conn.Read(context.Background())
				if err != nil {
					said <- fmt.Sprint(websocket.CloseStatus(err))
					return
				}
				said <- string(message)
			}
		}()
		began := time.Now()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(began), time.Second)
		require.Equal(t, `{"bye":true}`, <-said)
		require.Equal(t, fmt.Sprint(websocket.StatusGoingAway), <-said)
		locks, err := b.st.List(t.Context())
		require.NoError(t, err)
		require.Len(t, locks, 1)
		require.Equal(t, held.ID, locks[0].ID)
		deaf.CloseNow()
	})
}

// TestStreamsOfAKeyThatGoes are closed, others stay.
func TestStreamsOfAKeyThatGoes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithAPIKeys("another"))
		conn := b.stream()
		b.srv.SetKeys(access.Admins(apiKey)...)
		send(t, conn, `{"n":1,"ping":true}`)
		require.Equal(t, `{"n":1,"pong":true}`, next(t, conn))
		b.srv.SetKeys(access.Admins("another")...)
		require.Contains(t, next(t, conn), `{"error":{"status":401,"message":"`)
		_, _, err := conn.Read(context.Background())
		require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
	})
}

// TestTheStoreFailsOnAStream: requests get 503 or 500, without what the store said, which is logged
// without the engine being held up.
func TestTheStoreFailsOnAStream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		st := newFaulty()
		b := startOn(t, st, server.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		conn := b.stream()
		send(t, conn, "%s", acquiring(1, "arm", "aaaaaaaaaaaa"))
		var granted struct{ Lock lock }
		require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &granted))
		st.fail(errors.New("disk full"), nil)
		n := 1
		for _, request := range []string{
			fmt.Sprintf(`"renew":%q,"lease":60`, granted.Lock.ID),
			fmt.Sprintf(`"release":%q`, granted.Lock.ID), `"cancel":"bbbbbbbbbbbb"`,
			strings.TrimPrefix(
				strings.TrimSuffix(acquiring(0, "b", "cccccccccccc"), "}"), `{"n":0,`),
		} {
			n++
			send(t, conn, `{"n":%d,%s}`, n, request)
			message := next(t, conn)
			require.Contains(t, message, fmt.Sprintf(`{"n":%d,"error":{"status":500,`, n))
			require.Contains(t, message, ": internal error: see the server's log")
			require.NotContains(t, message, "disk full")
		}
		synctest.Wait()
		require.Equal(t, 4, strings.Count(log.String(), "disk full"), log.String())
		st.fail(nil, nil)
	})
}

// TestAStreamOverTheNetwork works over TCP and TLS.
func TestAStreamOverTheNetwork(t *testing.T) {
	for name, begin := range map[string]func(*httptest.Server){
		"TCP": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS,
	} {
		t.Run(name, func(t *testing.T) {
			srv := server.New(memstore.New(), server.WithAPIKeys(apiKey))
			ts := httptest.NewUnstartedServer(srv)
			begin(ts)
			defer ts.Close()
			defer func() { require.NoError(t, srv.Shutdown(context.Background())) }()
			conn, _, err := websocket.Dial(t.Context(), ts.URL+"/v1/stream",
				&websocket.DialOptions{
					HTTPClient: ts.Client(), Subprotocols: []string{"relukko.stream.v1"},
					HTTPHeader: http.Header{"X-Api-Key": {apiKey}},
				})
			require.NoError(t, err)
			defer conn.CloseNow()
			require.Contains(t, next(t, conn), "hello")
			for n := 1; n < 100; n += 2 {
				var granted struct{ Lock lock }
				send(t, conn, "%s", acquiring(n, "arm", fmt.Sprintf("%012d", n)))
				require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &granted))
				send(t, conn, `{"n":%d,"release":%q}`, n+1, granted.Lock.ID)
				require.Contains(t, next(t, conn), "done")
			}
			closed := make(chan error, 1)
			go func() { closed <- conn.Close(websocket.StatusNormalClosure, "") }()
			require.NoError(t, <-closed)
		})
	}
}

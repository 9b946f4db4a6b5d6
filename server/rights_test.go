package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// until reads messages until one begins like that.
func until(t *testing.T, conn *websocket.Conn, prefix string) {
	t.Helper()
	for !strings.HasPrefix(next(t, conn), prefix) {
	}
}

// grantedOn returns the next lock that is granted on a stream.
func grantedOn(t *testing.T, conn *websocket.Conn) lock {
	t.Helper()
	for {
		var message struct{ Lock *lock }
		text := next(t, conn)
		require.NotContains(t, text, "error")
		require.NoError(t, json.Unmarshal([]byte(text), &message))
		if message.Lock != nil {
			return *message.Lock
		}
	}
}

// TestAKeyThatGoes: its connections get 401 and are closed, its places are given up, and its locks
// stay.
func TestAKeyThatGoes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		held := b.lockOf("bob", "desk")
		kept := b.lockOf("ada", "shelf")
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "desk", otherMark))
		synctest.Wait()
		plain := b.waitAs("ada user", "desk")
		watcher := b.watchAs("ada user")
		other, _ := b.streamOf("bob user")
		synctest.Wait()
		send(t, other, "%s", acquiring(1, "desk", otherMark))
		synctest.Wait()

		b.srv.SetKeys(append(access.Admins(apiKey), namedKey("bob", access.User),
			namedKey("eve", access.Viewer))...)
		const gone = "this X-API-KEY is not valid any more"
		require.Equal(t, `{"error":{"status":401,"message":"`+gone+`"}}`, next(t, conn))
		synctest.Wait()
		b.delete(held.ID)
		require.Equal(t, "desk", grantedOn(t, other).Name, "immediately")
		_, _, err := conn.Read(context.Background())
		require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
		r := <-plain
		require.Equal(t, 401, r.status, r.body)
		require.JSONEq(t, `{"status":401,"message":"lock \"desk\": `+gone+`"}`, r.body)
		require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(<-watcher.end))
		require.Equal(t, 403, b.send(t.Context(), "GET", "/v1/locks/", "", "X-API-KEY",
			"ada user").status)
		require.Equal(t, 200, b.send(t.Context(), "GET", "/v1/locks/"+kept.ID, "").status)
		send(t, other, `{"n":9,"ping":true}`)
		require.Contains(t, next(t, other), "pong")
	})
}

// waitAs queues a create of a key.
func (b *backend) waitAs(secret, name string) chan reply {
	answer := make(chan reply, 1)
	go func() {
		answer <- b.send(b.t.Context(), "POST", "/v1/locks/", createBody(name, ""),
			"X-API-KEY", secret, "Prefer", "wait=30")
	}()
	return answer
}

func (b *backend) watchAs(secret string) *watcher {
	b.t.Helper()
	conn, _, err := websocket.Dial(b.t.Context(), "http://relukko.test/ws/broadcast",
		&websocket.DialOptions{
			HTTPClient: &http.Client{Transport: b.tr},
			HTTPHeader: http.Header{"X-Api-Key": {secret}},
		})
	require.NoError(b.t, err)
	return b.collect(conn)
}

// TestAKeyWhoseRightsChange: the next request has the new ones, and what waits is asked for again,
// with them.
func TestAKeyWhoseRightsChange(t *testing.T) {
	change := func(role access.Role, patterns ...string) []access.Key {
		key := namedKey("ada", access.User)
		key.Role, key.Patterns = role, patterns
		return append(access.Admins(apiKey), key, namedKey("bob", access.User))
	}
	for name, row := range map[string]struct {
		to   []access.Key
		says string // to the acquire that comes again
	}{
		"a viewer":        {change(access.Viewer), `"status":403,"message":"lock \"desk\"`},
		"other patterns":  {change(access.User, "b*"), `"status":403,"message":"lock \"desk\"`},
		"an admin":        {change(access.Admin), `{"n":1,"waiting":{"ahead":0,`},
		"a wider pattern": {change(access.User, "d*"), `{"n":1,"waiting":{"ahead":0,`},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, server.WithKeys(someKeys...))
				held := b.lockOf("bob", "desk")
				conn, _ := b.streamOf("ada user")
				send(t, conn, "%s", acquiring(1, "desk", lockMark))
				synctest.Wait() // it is the first in the queue
				plain, watcher := b.waitAs("ada user", "desk"), b.watchAs("ada user")
				synctest.Wait()
				b.srv.SetKeys(row.to...)
				_, _, err := conn.Read(context.Background())
				require.Equal(t, websocket.StatusServiceRestart, websocket.CloseStatus(err))
				synctest.Wait()

				conn, hello := b.streamOf("ada user")
				require.Contains(t, hello, fmt.Sprintf(`"role":"%v"`, row.to[1].Role))
				send(t, conn, `{"n":1,"acquire":{"lock_names":["desk"],"creator":"me #%s",`+
					`"lease":60,"wait":true,"again":true,"progress":true}}`, lockMark)
				require.Contains(t, next(t, conn), row.says)
				require.Empty(t, watcher.end, "it may read on")
				refused := strings.Contains(row.says, "403")
				if refused {
					require.Equal(t, 403, (<-plain).status)
				}
				b.delete(held.ID)
				synctest.Wait()
				require.Equal(t, refused, len(b.locks()) == 0)
			})
		})
	}
}

// TestALockThatWasGrantedMeanwhile: where an acquire that comes again is refused, no lock of its
// mark stays.
func TestALockThatWasGrantedMeanwhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "desk", lockMark))
		grantedOn(t, conn)
		b.srv.SetKeys(append(access.Admins(apiKey), func() access.Key {
			key := namedKey("ada", access.User)
			key.Patterns = []string{"bench-*"}
			return key
		}())...)
		synctest.Wait()
		conn, _ = b.streamOf("ada user")
		send(t, conn, `{"n":1,"acquire":{"lock_names":["desk"],"creator":"me #%s","lease":60,`+
			`"again":true}}`, lockMark)
		require.Contains(t, next(t, conn), `"status":403`)
		require.Empty(t, b.locks())
	})
}

// TestRenewalsOfOwnLocksAskTheStoreOnce: whose lock it is need not be asked on the connection that
// has acquired it.
func TestRenewalsOfOwnLocksAskTheStoreOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &countingGets{Store: newFaulty()}
		b := startOn(t, st, server.WithKeys(someKeys...))
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "desk", lockMark))
		held := grantedOn(t, conn)
		renew := func(conn *websocket.Conn, n int) {
			send(t, conn, `{"n":%d,"renew":%q,"lease":60}`, n, held.ID)
			require.Equal(t, held.ID, grantedOn(t, conn).ID)
		}
		renew(conn, 2)
		require.Zero(t, st.gets)
		other, _ := b.streamOf("ada user")
		renew(other, 1)
		renew(other, 2)
		require.Equal(t, 1, st.gets)
		send(t, other, `{"n":3,"release":%q}`, held.ID)
		require.Equal(t, `{"n":3,"done":true}`, next(t, other))
		require.Equal(t, 1, st.gets)
	})
}

type countingGets struct {
	store.Store
	gets int
}

func (c *countingGets) Get(ctx context.Context, id string) (store.Lock, error) {
	c.gets++
	return c.Store.Get(ctx, id)
}

// TestALockThatCannotBeRead: where the store does not say whose a lock is, nothing is done to it.
func TestALockThatCannotBeRead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := newFaulty()
		gets := &failingGets{faulty: st}
		b := startOn(t, gets, server.WithKeys(someKeys...))
		made := b.lockOf("ada", "desk")
		gets.failing = true
		for _, request := range []string{"DELETE /v1/locks/ID", "PUT /v1/locks/ID",
			"GET /v1/locks/ID/keep_alive", "stream renew", "stream release"} {
			require.Equal(t, 503, b.as("ada user", request, &made).status, request)
		}
		require.Equal(t, made.ExpiresAt, b.locks()[0].ExpiresAt)
		require.Equal(t, 200, b.as("root admin", "DELETE /v1/locks/ID", &made).status)
	})
}

type failingGets struct {
	*faulty
	failing bool
}

func (f *failingGets) Get(ctx context.Context, id string) (store.Lock, error) {
	if f.failing {
		return store.Lock{}, store.ErrUnavailable
	}
	return f.faulty.Get(ctx, id)
}

// TestFloodsOfWrongKeys are slowed down on every path, and nobody else is.
func TestFloodsOfWrongKeys(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		paths := []string{"/v1/locks/", "/v1/stream", "/ws/broadcast", "/v1/waiting/"}
		for i := range 20 {
			b.do(403, "GET", paths[i%len(paths)], "", "X-API-KEY", "guess")
		}
		time.Sleep(20500 * time.Millisecond)
		for _, path := range paths {
			r := b.do(429, "GET", path, "", "X-API-KEY", "guess")
			require.Equal(t, "40", r.header.Get("Retry-After"))
			require.JSONEq(t, `{"status":429,"message":"wrong or missing X-API-KEY, as in many `+
				`requests from 192.0.2.7 before: try again in 40 s, or with a right key `+
				`immediately"}`, r.body)
		}
		b.do(200, "GET", "/v1/locks/", "")
		b.stream()
		b.watch()
		time.Sleep(40 * time.Second)
		b.do(403, "GET", "/v1/locks/", "", "X-API-KEY", "guess")
	})
}

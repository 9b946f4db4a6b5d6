package server_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
)

// ended is an entry of the history in JSON.
type ended struct {
	lock
	Owner   string    `json:"owner"`
	EndedAt time.Time `json:"ended_at"`
	Ended   string    `json:"ended"`
	EndedBy string    `json:"ended_by"`
	Reason  string    `json:"reason"`
	Waited  float64   `json:"waited"`
}

func (b *backend) history(query string) (all []ended) {
	b.t.Helper()
	r := b.do(200, "GET", "/v1/history/"+query, "")
	require.NoError(b.t, json.Unmarshal([]byte(r.body), &all), r.body)
	return all
}

// TestHistory has each end of a lock that clients can bring about.
func TestHistory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		require.Equal(t, "[]", b.do(200, "GET", "/v1/history", "").body)
		const mark = "k3v5x2m4q7ab"
		last := func(how, by, reason string) ended {
			t.Helper()
			e := b.history("?limit=1")[0]
			require.Equal(t, how, e.Ended)
			require.Equal(t, by, e.EndedBy)
			require.Equal(t, reason, e.Reason)
			require.Equal(t, "default", e.Owner)
			return e
		}

		held := b.create("robot-arm-1", "bench-7 #"+mark)
		time.Sleep(time.Minute)
		b.delete(held.ID)
		e := last("released", "default", "")
		require.Equal(t, "bench-7", *e.Creator, "without its mark")
		require.Equal(t, time.Minute, e.EndedAt.Sub(e.CreatedAt).Round(time.Second))
		e.Creator, held.Creator = nil, nil
		require.Equal(t, held, e.lock)
		require.Zero(t, e.Waited)

		held = b.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "second", 30)
		time.Sleep(7 * time.Second)
		b.do(200, "DELETE", "/v1/locks/"+held.ID, "", "X-Relukko-Reason", "f%C3%BCr%20Ada")
		last("broken", "default", "für Ada")
		synctest.Wait()
		b.do(200, "DELETE", "/v1/locks/"+w.granted(t).ID, "", "X-Relukko-Reason", "")
		e = last("broken", "default", "")
		require.InDelta(t, 7, e.Waited, 0.1)

		conn := b.stream()
		acquire := func(n int) (id string) {
			const mark = "aaaaaaaaaaaa" // the other one was claimed over HTTP
			request := fmt.Sprintf(`{"n":%d,"acquire":{"lock_names":["robot-arm-1"],`+
				`"creator":"bench-7 #%s","lease":60}}`, n, mark)
			require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(request)))
			var granted struct{ Lock lock }
			answer := next(t, conn)
			require.NoError(t, json.Unmarshal([]byte(answer), &granted), answer)
			require.NotEmpty(t, granted.Lock.ID, answer)
			return granted.Lock.ID
		}
		ask := func(request string) {
			require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(request)))
			require.Contains(t, next(t, conn), `"done":true`)
		}
		ask(fmt.Sprintf(`{"n":2,"release":%q}`, acquire(1)))
		last("released", "default", "")
		acquire(3)
		ask(fmt.Sprintf(`{"n":4,"cancel":%q}`, "aaaaaaaaaaaa"))
		last("cancelled", "default", "")

		b.create("robot-arm-2", "")
		conn.CloseNow()
		time.Sleep(time.Hour)
		last("expired", "", "")
		require.Len(t, b.history(""), 6)
		require.Len(t, b.history("?lock_name=robot-arm-2"), 1)
	})
}

// TestQueriesOfTheHistory that make no sense are refused, and say why.
func TestQueriesOfTheHistory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		for range 130 {
			time.Sleep(time.Second)
			b.delete(b.create("robot-arm-1", "").ID)
		}
		all := b.history("?limit=10000")
		require.Len(t, all, 130)
		require.Equal(t, all[:100], b.history(""))
		zoned := all[20].EndedAt.In(time.FixedZone("", 3600)).Format(time.RFC3339Nano)
		require.Equal(t, all[:21], b.history("?since="+url.QueryEscape(zoned)))
		require.Equal(t, all[20:50],
			b.history("?limit=30&until="+all[20].EndedAt.Format(time.RFC3339Nano)))
		for query, message := range map[string]string{
			"?limit=0":     "limit must be a number from 1 to 10000",
			"?limit=10001": "limit must be a number from 1 to 10000",
			"?limit=many":  "limit must be a number from 1 to 10000",
			"?since=today": "since must be an RFC 3339 time",
			"?until=2026-01-02T03:04:05+01:00": "until must be an RFC 3339 time, like " +
				"2099-12-31T12:34:56.789Z, with + written as %2B",
			"?name=a": "the history has no parameter",
			"?%":      "the query is not valid",
		} {
			r := b.do(400, "GET", "/v1/history/"+query, "")
			require.Contains(t, r.body, message)
		}
		b.do(405, "POST", "/v1/history/", "")
	})
}

// TestNoHistory: nothing is kept.
func TestNoHistory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, option := range []server.Option{
			server.WithHistory(0, 1000), server.WithHistory(time.Hour, 0),
		} {
			b := start(t, option)
			b.delete(b.create("robot-arm-1", "").ID)
			require.Empty(t, b.history(""))
		}
	})
}

// TestKeysInTheHistory: what another key than the owner's ends is broken, by that key.
func TestKeysInTheHistory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		for _, request := range []string{"DELETE /v1/locks/ID", "stream release"} {
			for secret, want := range map[string]string{
				"ada user": "released", "root admin": "broken", apiKey: "broken",
			} {
				made := b.lockOf("ada", "desk")
				require.Equal(t, 200, b.as(secret, request, &made).status)
				e := b.history("?limit=1")[0]
				require.Equal(t, made.ID, e.ID)
				require.Equal(t, "ada", e.Owner)
				require.Equal(t, want, e.Ended, "%s with %s", request, secret)
				by, _, _ := strings.Cut(secret, " ")
				if secret == apiKey {
					by = "default"
				}
				require.Equal(t, by, e.EndedBy)
			}
		}
	})
}

// TestWaitedInTheHistory: the time counts, here and on earlier connections, and no priority.
func TestWaitedInTheHistory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		held := b.create("robot-arm-1", "")
		conn := b.stream()
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(
			`{"n":1,"acquire":{"lock_names":["robot-arm-1"],"creator":"bench-7 #aaaaaaaaaaaa",`+
				`"lease":60,"wait":true,"priority":5,"waited":10}}`)))
		time.Sleep(3 * time.Second)
		b.delete(held.ID)
		var granted struct{ Lock lock }
		require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &granted))
		b.delete(granted.Lock.ID)
		require.InDelta(t, 13, b.history("?limit=1")[0].Waited, 0.01)
	})
}

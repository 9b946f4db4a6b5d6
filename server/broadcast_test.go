package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
)

func TestBroadcast(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		early := b.watch()
		made := b.do(201, "POST", "/v1/locks", createBody("robot-arm-1", "bench-7"))
		late := b.watch()
		path := "/v1/locks/" + made.lock(t).ID
		renewed := b.do(200, "PUT", path+"/keep_alive", `{"seconds":60}`)
		changed := b.do(200, "PUT", path, `{"creator":"bench-8"}`)
		b.do(200, "GET", path, "")
		b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", "bench-7"))
		b.do(404, "DELETE", "/v1/locks/"+nobody, "")
		deleted := b.do(200, "DELETE", path, "")
		b.delete(b.create("robot-arm-1", marked).ID)
		synctest.Wait()

		text := func(kind string, r reply) string {
			return fmt.Sprintf(
				`MessageText {"%s":%s}`, kind, r.body)
		}
		want := []string{text("updated", renewed), text("updated", changed),
			text("deleted", deleted)}
		got := early.take()
		require.Equal(t, append([]string{text("created", made)}, want...), got[:4])
		require.Len(t, got, 6, "and a lock that was created and deleted")
		require.Contains(t, got[4], `{"created":{`)
		require.Contains(t, got[5], `{"deleted":{`)
		require.Equal(t, want, late.take()[:3])
	})
}

func TestTheKeyIsAskedForOnTheWebSocket(t *testing.T) {
	b := start(t)
	for _, key := range []string{"", "wrong"} {
		_, resp, err := websocket.Dial(
			t.Context(), "http://relukko.test/ws/broadcast", &websocket.DialOptions{
				HTTPClient: &http.Client{Transport: b.tr},
				HTTPHeader: http.Header{"X-Api-Key": {key}},
			})
		require.Error(t, err)
		require.Equal(t, 403, resp.StatusCode)
	}
}

// TestASlowWatcherIsDisconnected: nobody waits for it, neither who deletes nor the other watchers.
func TestASlowWatcherIsDisconnected(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var dropped drops
		b := start(t, server.WithObserver(&dropped))
		slow := b.dialWatch() // never reads; there is no buffer in between
		defer slow.CloseNow()
		w := b.watch()
		began := time.Now()
		b.delete(b.create("robot-arm-1", "").ID)
		synctest.Wait()
		require.Len(t, w.take(), 2)
		require.Zero(t, time.Since(began))

		// For a message to be taken, and for a close to be answered.
		time.Sleep(10*time.Second + 2*time.Second)
		synctest.Wait()
		_, message, err := slow.Read(t.Context())
		require.Error(t, err, "%s", message)
		b.delete(b.create("robot-arm-1", "").ID)
		synctest.Wait()
		require.Len(t, w.take(), 2)
		require.EqualValues(t, 1, dropped.n.Load())
	})
}

// TestAWatcherFarBehindIsDisconnected: it would miss messages, and must learn that it does.
func TestAWatcherFarBehindIsDisconnected(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var dropped drops
		b := start(t, server.WithObserver(&dropped))
		slow := b.dialWatch()
		defer slow.CloseNow()
		for range 2100 {
			b.delete(b.create("robot-arm-1", "").ID)
		}
		synctest.Wait()
		n := 0
		for {
			_, _, err := slow.Read(t.Context())
			if err != nil {
				require.Equal(t, websocket.StatusTryAgainLater, websocket.CloseStatus(err))
				break
			}
			n++
		}
		require.Less(t, n, 200)
		require.EqualValues(t, 1, dropped.n.Load())
	})
}

func TestWatchersArePinged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		dead := b.dialWatch() // answers no ping, since nobody reads
		defer dead.CloseNow()
		w := b.watch()
		time.Sleep(41 * time.Second)
		synctest.Wait()
		_, _, err := dead.Read(t.Context())
		require.Error(t, err)
		time.Sleep(5 * time.Minute)
		b.create("robot-arm-1", "")
		synctest.Wait()
		require.Len(t, w.take(), 1)
	})
}

func TestWhatWatchersSendIsDiscarded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		w := b.watch()
		for range 100 {
			require.NoError(t, w.conn.Write(
				t.Context(), websocket.MessageText, []byte(strings.Repeat("x", 4096))))
		}
		b.create("robot-arm-1", "")
		synctest.Wait()
		require.Len(t, w.take(), 1)

		_ = w.conn.Write(t.Context(), websocket.MessageBinary, make([]byte, 5000))
		synctest.Wait()
		require.Equal(t, websocket.StatusMessageTooBig, websocket.CloseStatus(<-w.end))
	})
}

// TestManyWatchers: all hear of a delete, and who deletes does not wait for them.
func TestManyWatchers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		const n = 300
		var watchers []*watcher
		for range n {
			watchers = append(watchers, b.watch())
		}
		slow := b.dialWatch()
		defer slow.CloseNow()
		b.delete(b.create("robot-arm-1", "").ID)
		synctest.Wait()
		for _, w := range watchers {
			require.Len(t, w.take(), 2)
		}
		// All that a watcher holds is given back when it leaves.
		var wg sync.WaitGroup
		for _, w := range watchers {
			wg.Go(func() { w.conn.Close(websocket.StatusNormalClosure, "") })
		}
		wg.Wait()
	})
}

func TestAWatcherWhoGoesWithoutAWord(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		w := b.watch()
		w.conn.CloseNow()
		synctest.Wait()
		b.delete(b.create("robot-arm-1", "").ID)
	})
}

func TestUpgradeErrorsAreJSON(t *testing.T) {
	b := start(t)
	r := b.do(400, "GET", "/ws/broadcast", "", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "12")
	require.JSONEq(t, `{"status":400,"message":`+
		`"unsupported WebSocket protocol version (only 13 is supported): \"12\""}`, r.body)
	require.Equal(t, "13", r.header.Get("Sec-Websocket-Version"))
}

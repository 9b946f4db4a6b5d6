package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// broadcaster is a backend's broadcast. All that it starts ends with its connections.
type broadcaster struct {
	mu     sync.Mutex
	open   map[*websocket.Conn]context.CancelFunc
	opened int
	closes []websocket.StatusCode // how the clients said goodbye
	other  http.HandlerFunc       // answers instead of a WebSocket
	deaf   bool                   // nothing is read any more: no pong, no goodbye
	wg     sync.WaitGroup
}

func (b *broadcaster) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	other, deaf := b.other, b.deaf
	b.mu.Unlock()
	if r.URL.Path != "/ws/broadcast" || r.Header.Get("X-API-KEY") != testKey {
		answer(400, "")(w, r)
		return
	}
	if other != nil {
		other(w, r)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.mu.Lock()
	if b.open == nil {
		b.open = make(map[*websocket.Conn]context.CancelFunc)
	}
	b.open[conn] = cancel
	b.opened++
	b.mu.Unlock()
	b.wg.Add(1)
	defer b.wg.Done()
	if deaf {
		<-ctx.Done()
	} else {
		_, _, err = conn.Read(ctx)
	}
	conn.CloseNow()
	b.mu.Lock()
	delete(b.open, conn)
	b.closes = append(b.closes, websocket.CloseStatus(err))
	b.mu.Unlock()
	cancel()
}

// set changes what b does, for connections to come.
func (b *broadcaster) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// connections is how many are open, and how many ever were.
func (b *broadcaster) connections() (now, ever int) {
	synctest.Wait() // what is under way is done then
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open), b.opened
}

func (b *broadcaster) conns() []*websocket.Conn {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var conns []*websocket.Conn
	for conn := range b.open {
		conns = append(conns, conn)
	}
	return conns
}

// say sends message to all, in a bubble.
func (b *broadcaster) say(t testing.TB, kind websocket.MessageType, message string) {
	for _, conn := range b.conns() {
		require.NoError(t, conn.Write(context.Background(), kind, []byte(message)))
	}
}

// drop closes all connections without a word.
func (b *broadcaster) drop() {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, cancel := range b.open {
		cancel()
	}
}

// watching runs f in a bubble with a client of a broadcaster.
func watching(t *testing.T, f func(t *testing.T, b *broadcaster, c *Client, m *memory),
	opts ...Option) {
	bubble.Test(t, func(t *testing.T) {
		b := &broadcaster{}
		t.Cleanup(b.wg.Wait)
		t.Cleanup(b.drop)
		c, m := inMemory(t, b.serve, opts...)
		f(t, b, c, m)
	})
}

func watch(t *testing.T, c *Client) *Watch {
	w, err := c.Watch(t.Context())
	require.NoError(t, err)
	return w
}

// next returns the next event and how long it took.
func next(t *testing.T, w *Watch) (Event, time.Duration) {
	begin := time.Now()
	select {
	case e, ok := <-w.Events():
		require.True(t, ok, "the watch has ended")
		return e, time.Since(begin)
	case <-time.After(time.Hour):
		require.Fail(t, "no event")
		return Event{}, 0
	}
}

func nothing(t *testing.T, w *Watch) {
	synctest.Wait()
	select {
	case e, ok := <-w.Events():
		require.Fail(t, "an event", "%v %v", e, ok)
	default:
	}
}

var (
	connected    = Event{Kind: EventConnected}
	disconnected = Event{Kind: EventDisconnected}
	deleted      = Event{Kind: EventDeleted}
)

func TestAllWatchesShareOneWebSocket(t *testing.T) {
	watching(t, func(t *testing.T, b *broadcaster, c *Client, _ *memory) {
		synctest.Wait()
		_, ever := b.connections()
		require.Zero(t, ever, "no WebSocket before the first Watch")

		var watches []*Watch
		for range 5 {
			w := watch(t, c)
			watches = append(watches, w)
			e, took := next(t, w)
			require.Equal(t, connected, e)
			require.Zero(t, took)
		}
		now, ever := b.connections()
		require.Equal(t, []int{1, 1}, []int{now, ever})

		b.say(t, websocket.MessageText, `{"deleted":true}`)
		b.say(t, websocket.MessageBinary, `{"deleted":"`+testID+`"}`)
		b.say(t, websocket.MessageText, `nonsense`)
		b.say(t, websocket.MessageText, `[1]`)
		b.say(t, websocket.MessageText, ``)
		b.say(t, websocket.MessageText, `{"hello":"world"}`)
		for _, w := range watches {
			for _, want := range []Event{deleted, {Kind: EventDeleted, ID: testID},
				{Kind: EventOther}} {
				e, _ := next(t, w)
				require.Equal(t, want, e)
			}
			nothing(t, w)
		}
		for i, w := range watches {
			now, _ = b.connections()
			require.Equal(t, 1, now, "%d", i)
			w.Close()
			w.Close()
			_, ok := <-w.Events()
			require.False(t, ok)
		}
		synctest.Wait()
		now, _ = b.connections()
		require.Zero(t, now)
		require.Equal(t, []websocket.StatusCode{websocket.StatusNormalClosure}, b.closes,
			"a polite end")

		w := watch(t, c) // and again
		e, _ := next(t, w)
		require.Equal(t, connected, e)
		_, ever = b.connections()
		require.Equal(t, 2, ever)
		w.Close()
	})
}

func TestAWatchEndsWithItsContextAndWithItsClient(t *testing.T) {
	watching(t, func(t *testing.T, b *broadcaster, c *Client, _ *memory) {
		ctx, cancel := context.WithCancel(t.Context())
		w, err := c.Watch(ctx)
		require.NoError(t, err)
		other := watch(t, c)
		cancel()
		for range w.Events() {
		}
		e, _ := next(t, other)
		require.Equal(t, connected, e)
		synctest.Wait()
		now, _ := b.connections()
		require.Equal(t, 1, now)
		w.Close()

		require.NoError(t, c.Shutdown(t.Context()))
		_, ok := <-other.Events()
		require.False(t, ok)
		other.Close()
		synctest.Wait()
		now, _ = b.connections()
		require.Zero(t, now)
		_, err = c.Watch(t.Context())
		require.ErrorIs(t, err, ErrClosed)
	})
	c := client(t, "http://localhost:3000", WithoutWatch())
	_, err := c.Watch(t.Context())
	require.ErrorIs(t, err, ErrNoWatch)
}

func TestReconnects(t *testing.T) {
	watching(t, func(t *testing.T, b *broadcaster, c *Client, m *memory) {
		w := watch(t, c)
		defer w.Close()
		e, _ := next(t, w)
		require.Equal(t, connected, e)
		for _, cut := range []func(){b.drop, m.cut, func() {
			for _, conn := range b.conns() {
				go conn.Close(websocket.StatusGoingAway, "restarting")
			}
		}} {
			time.Sleep(time.Minute)
			cut() // an idle connection
			e, _ = next(t, w)
			require.Equal(t, disconnected, e)
			e, took := next(t, w)
			require.Equal(t, connected, e)
			require.GreaterOrEqual(t, took, 50*time.Millisecond)
			require.LessOrEqual(t, took, 151*time.Millisecond)
			b.say(t, websocket.MessageText, `{"deleted":true}`)
			e, _ = next(t, w)
			require.Equal(t, deleted, e)
		}
	})
}

// What does not work is tried less and less often, up to a bound, and with one
// line in the log.
func TestReconnectsBackOff(t *testing.T) {
	tests := []struct {
		name    string
		other   http.HandlerFunc
		longest time.Duration
	}{
		{"cut", func(w http.ResponseWriter, r *http.Request) {
			conn, err := websocket.Accept(w, r, nil)
			if err == nil {
				conn.CloseNow()
			}
		}, 5 * time.Second},
		{"503", answer(503, "restarting"), 5 * time.Second},
		{"404", answer(404, "no WebSocket here"), time.Minute},
		{"403", answer(403, ""), time.Minute},
		{"200", answer(200, "<html>"), time.Minute},
		{"redirect", answer(302, "", "Location", "http://elsewhere/"), time.Minute},
		{"another protocol", answer(101, ""), time.Minute},
		{"wrong handshake", func(w http.ResponseWriter, r *http.Request) {
			answer(101, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Accept",
				"x")(w, r)
		}, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			debug := slog.New(slog.NewTextHandler(&log,
				&slog.HandlerOptions{Level: slog.LevelDebug}))
			watching(t, func(t *testing.T, b *broadcaster, c *Client, _ *memory) {
				s := &script{handlers: []http.HandlerFunc{tt.other}}
				b.other = s.serve
				w := watch(t, c)
				var wg sync.WaitGroup
				connections := 0
				wg.Go(func() {
					for e := range w.Events() {
						if e.Kind == EventConnected {
							connections++
						} else {
							require.Equal(t, disconnected, e)
						}
					}
				})
				time.Sleep(time.Hour)
				n := s.count()
				if tt.name != "cut" {
					require.Zero(t, connections)
					require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
				}
				require.Greater(t, n, int(time.Hour/tt.longest)*9/10)
				require.Less(t, n, 3*int(time.Hour/tt.longest)+20)
				slack := time.Millisecond
				if tt.name == "wrong handshake" {
					slack = 3 * time.Second // a look at what comes behind it
				}
				for i := range n - 1 {
					require.LessOrEqual(t, s.times[i+1].Sub(s.times[i]), tt.longest+slack)
				}
				require.LessOrEqual(t, s.times[1].Sub(s.times[0]), 150*time.Millisecond+slack)

				b.set(func() { b.other = nil }) // there is one after all
				time.Sleep(tt.longest)
				now, _ := b.connections()
				require.Equal(t, 1, now)
				w.Close()
				wg.Wait()
				require.NotContains(t, log.String(), testKey)
			}, WithLogger(debug))
		})
	}
}

// A network that goes dark is noticed by a ping that is not answered.
func TestPings(t *testing.T) {
	watching(t, func(t *testing.T, b *broadcaster, c *Client, _ *memory) {
		b.deaf = true
		w := watch(t, c)
		e, _ := next(t, w)
		require.Equal(t, connected, e)
		b.set(func() { b.deaf = false })
		e, took := next(t, w)
		require.Equal(t, disconnected, e)
		require.Equal(t, 15*time.Second, took)
		e, _ = next(t, w)
		require.Equal(t, connected, e)
		time.Sleep(time.Hour) // the pings of an hour are answered
		nothing(t, w)
		w.Close()
	})
}

// The end of a Watch does not wait for a network that went dark.
func TestCloseInTheDark(t *testing.T) {
	watching(t, func(t *testing.T, b *broadcaster, c *Client, _ *memory) {
		b.deaf = true
		// the last one within a ping
		for _, after := range []time.Duration{0, time.Second, 12 * time.Second} {
			w := watch(t, c)
			e, _ := next(t, w)
			require.Equal(t, connected, e)
			time.Sleep(after)
			begin := time.Now()
			w.Close()
			require.LessOrEqual(t, time.Since(begin), politeTime)
			for _, conn := range b.conns() {
				conn.CloseNow()
			}
			b.drop()
			synctest.Wait()
		}
		// Nor while it is still being opened.
		for _, h := range []http.HandlerFunc{silence, func(w http.ResponseWriter, r *http.Request) {
			// and nothing that looks like a handshake, then silence
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				io.Copy(io.Discard, conn)
				conn.Close()
			}
		}, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}} {
			b.set(func() { b.other = h })
			for _, after := range []time.Duration{0, time.Second, 5 * time.Second,
				7 * time.Second} {
				w := watch(t, c)
				time.Sleep(after)
				begin := time.Now()
				w.Close()
				require.Zero(t, time.Since(begin))
			}
		}
	})
}

// A receiver that is too slow misses events, but never the state of the
// connection, and does not keep the others waiting.
func TestASlowReceiverMissesEvents(t *testing.T) {
	watching(t, func(t *testing.T, b *broadcaster, c *Client, _ *memory) {
		slow, fast := watch(t, c), watch(t, c)
		e, _ := next(t, slow)
		require.Equal(t, connected, e)
		e, _ = next(t, fast)
		require.Equal(t, connected, e)
		for i := range 1000 {
			b.say(t, websocket.MessageText,
				fmt.Sprintf(`{"deleted":"00000000-0000-0000-0000-%012d"}`, i))
			e, _ = next(t, fast)
			require.Equal(t, fmt.Sprintf("00000000-0000-0000-0000-%012d", i), e.ID)
		}
		synctest.Wait()
		var got []Event
		for len(got) == 0 || got[len(got)-1].ID != "00000000-0000-0000-0000-000000000999" {
			e, _ = next(t, slow)
			got = append(got, e)
		}
		require.LessOrEqual(t, len(got), watchQueue+2)
		require.Contains(t, got, connected, "what tells of the gap")
		last := -1
		for i, e := range got {
			if e == connected {
				last = i
			}
		}
		for i, e := range got[last+1:] {
			require.Equal(t, fmt.Sprintf("00000000-0000-0000-0000-%012d", 1000-len(got[last+1:])+i),
				e.ID, "no gap behind it")
		}
		nothing(t, slow)

		// Full of events, then the connection is lost for good.
		b.set(func() { b.other = answer(503, "") })
		for range watchQueue + 1 {
			b.say(t, websocket.MessageText, `{"deleted":true}`)
			next(t, fast)
		}
		b.drop()
		e, _ = next(t, fast)
		require.Equal(t, disconnected, e)
		synctest.Wait()
		for e = range slow.Events() {
			if e == disconnected {
				break
			}
		}
		nothing(t, slow)
		slow.Close()
		fast.Close()
	})
}

// Messages without end or measure cost the connection, not memory.
func TestAFloodIsCutOff(t *testing.T) {
	watching(t, func(t *testing.T, b *broadcaster, c *Client, _ *memory) {
		w := watch(t, c)
		e, _ := next(t, w)
		require.Equal(t, connected, e)
		whole := `{"deleted":true,"x":"` + strings.Repeat("a", maxMessageBytes-23) + `"}`
		require.Len(t, whole, maxMessageBytes)
		b.say(t, websocket.MessageText, whole)
		e, _ = next(t, w)
		require.Equal(t, deleted, e)

		for _, conn := range b.conns() {
			require.Error(t, conn.Write(t.Context(), websocket.MessageText,
				[]byte(strings.Repeat(" ", 2*maxMessageBytes))))
		}
		e, _ = next(t, w)
		require.Equal(t, disconnected, e)
		e, _ = next(t, w)
		require.Equal(t, connected, e)

		// A message that never ends, in small pieces.
		for _, conn := range b.conns() {
			out, err := conn.Writer(t.Context(), websocket.MessageText)
			require.NoError(t, err)
			n := 0
			for ; err == nil; n++ {
				_, err = io.WriteString(out, strings.Repeat("x", 1000))
				require.Less(t, n, 2000)
			}
		}
		e, _ = next(t, w)
		require.Equal(t, disconnected, e)

		// A million deletions in one message are too many for the queue only.
		e, _ = next(t, w)
		require.Equal(t, connected, e)
		b.say(t, websocket.MessageText, `{"deleted":[`+strings.Repeat("1,", 500_000)+`1]}`)
		synctest.Wait()
		n := 0
		for e, _ = next(t, w); e != connected; e, _ = next(t, w) {
			n++
		}
		require.LessOrEqual(t, n, watchQueue+1)
		w.Close()
	})
}

func TestEventKinds(t *testing.T) {
	require.Equal(t, "connected disconnected created updated deleted other unknown unknown",
		fmt.Sprint(EventConnected, EventDisconnected, EventCreated, EventUpdated, EventDeleted,
			EventOther, EventKind(0), EventKind(99)))
	require.Equal(t, "unknown", EventKind(-1).String())
}

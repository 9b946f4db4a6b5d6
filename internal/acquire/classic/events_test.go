package classic

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// broadcaster is a backend with nothing but the WebSocket.
type broadcaster struct {
	conns chan net.Conn
	ended chan struct{}

	mu   sync.Mutex
	open []*websocket.Conn
}

func (b *broadcaster) Accept() (net.Conn, error) {
	select {
	case conn := <-b.conns:
		return conn, nil
	case <-b.ended:
		return nil, net.ErrClosed
	}
}

func (b *broadcaster) Close() error   { return nil }
func (b *broadcaster) Addr() net.Addr { return &net.TCPAddr{} }

func (b *broadcaster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	b.mu.Lock()
	b.open = append(b.open, conn)
	b.mu.Unlock()
	conn.Read(context.Background())
	conn.CloseNow()
	b.mu.Lock()
	b.open = slices.DeleteFunc(b.open, func(c *websocket.Conn) bool { return c == conn })
	b.mu.Unlock()
}

// connections returns the WebSockets that are open.
func (b *broadcaster) connections() []*websocket.Conn {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.open)
}

// say broadcasts a message, and returns when it has been handled.
func (b *broadcaster) say(t *testing.T, message string) {
	for _, conn := range b.connections() {
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(message)))
	}
	synctest.Wait()
}

// watched runs f in a bubble with events that watch a broadcaster.
func watched(t *testing.T, f func(t *testing.T, e *events, b *broadcaster, l *lists)) {
	bubble.Test(t, func(t *testing.T) {
		b := &broadcaster{conns: make(chan net.Conn), ended: make(chan struct{})}
		server := &http.Server{Handler: b}
		go server.Serve(b)
		dial := func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			b.conns <- theirs
			return ours, nil
		}
		client, err := api.New("http://backend:3000", "s3cr3t",
			api.WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: dial}}))
		require.NoError(t, err)
		defer func() {
			require.NoError(t, client.Shutdown(context.Background()))
			close(b.ended)
			server.Close()
			synctest.Wait()
		}()
		l := &lists{}
		f(t, &events{
			watch: client.Watch, ctx: t.Context(), queues: new(queues),
			lists: &lister{list: l.list, ctx: t.Context()},
		}, b, l)
	})
}

// checks counts the checks of a holder.
type checks struct{ n int }

func (c *checks) check() { c.n++ }

// take returns how many there were since the last call.
func (c *checks) take() int {
	synctest.Wait()
	n := c.n
	c.n = 0
	return n
}

func TestEventsAreWatchedWhileThereAreUsers(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, _ *lists) {
		require.Empty(t, b.connections())
		require.False(t, e.pushed())
		done := e.wait()
		stop := e.hold(testID(1), func() {})
		require.Len(t, b.connections(), 1)
		require.True(t, e.pushed())

		stop()
		stop() // once more does nothing
		require.Len(t, b.connections(), 1)
		done()
		pass(time.Second)
		require.Empty(t, b.connections())
		require.False(t, e.pushed())

		done = e.wait()
		require.Len(t, b.connections(), 1, "there is a user again")
		require.True(t, e.pushed())
		done()
	})
}

func TestEventsWithoutPush(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		tries := 0
		e := &events{queues: new(queues), watch: func(context.Context) (*api.Watch, error) {
			tries++
			return nil, api.ErrNoWatch
		}}
		done := e.wait()
		stop := e.hold(testID(1), func() {})
		require.False(t, e.pushed())
		require.Equal(t, 2, tries)
		stop()
		done()
	})
}

func TestEventsEndWithTheWatch(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, _ *lists) {
		ctx, cancel := context.WithCancel(t.Context())
		e.ctx = ctx
		done := e.wait()
		require.Len(t, b.connections(), 1)
		cancel()
		synctest.Wait()
		require.False(t, e.pushed())
		require.Nil(t, e.stop)
		done()
	})
}

// Few locks are asked for one by one, and at most once in a while, as many deletions as there are.
func TestFewLocksAreAskedForOneByOne(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
		gets := 0
		e.get = func(_ context.Context, id string, _ ...api.CallOption) (api.Lock, error) {
			gets++
			if id == testID(2) {
				return api.Lock{}, api.ErrGone
			}
			return api.Lock{}, nil
		}
		var arm, leg checks
		defer e.hold(testID(1), arm.check)()
		defer e.hold(testID(2), leg.check)()
		pass(time.Second) // those on connecting are over
		for range 10 {
			b.say(t, `{"deleted":true}`)
		}
		pass(time.Second)
		synctest.Wait()
		require.Zero(t, arm.n)
		require.Positive(t, leg.n)
		require.LessOrEqual(t, gets, 6) // of two on connecting, and two rounds
		require.Empty(t, l.sent)
		for n := range fewLocks {
			defer e.hold(testID(10+n), arm.check)()
		}
		b.say(t, `{"deleted":true}`)
		pass(time.Second)
		require.Len(t, l.sent, 1)
	})
}

func TestHolderChecksOnADeletion(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
		l.locks = []api.Lock{*lockOf(1, "arm", mark), *lockOf(2, "leg", mark)}
		var arm, leg checks
		defer e.hold(testID(1), arm.check)()
		defer e.hold(testID(2), leg.check)()
		pass(time.Second) // the List on connecting is over
		lists := len(l.sent)
		for _, tt := range []struct {
			message  string
			gone     int // the lock that a List does not have any more
			arm, leg int
			lists    int
		}{
			{`{"deleted":"` + testID(1) + `"}`, 0, 1, 0, 0},
			{`{"deleted":{"id":"` + testID(2) + `","lock_name":"leg"}}`, 0, 0, 1, 0},
			{`{"deleted":"` + testID(7) + `"}`, 0, 0, 0, 0},
			{`{"deleted":true}`, 0, 0, 0, 1},
			{`{"deleted":true}`, 1, 1, 0, 1},
			{`{"updated":true}`, 0, 0, 0, 0},
		} {
			all := l.locks
			if tt.gone > 0 {
				l.locks = slices.Clone(all[tt.gone:])
			}
			b.say(t, tt.message)
			pass(time.Second)
			l.locks = all
			require.Equal(t, tt.arm, arm.take(), tt.message)
			require.Equal(t, tt.leg, leg.take(), tt.message)
			require.Equal(t, tt.lists, len(l.sent)-lists, tt.message)
			lists = len(l.sent)
		}
	})
}

func TestHoldersCheckAfterAReconnect(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
		l.locks = []api.Lock{*lockOf(2, "leg", mark)}
		var arm, leg checks
		defer e.hold(testID(1), arm.check)()
		defer e.hold(testID(2), leg.check)()
		require.Equal(t, 1, arm.take(), "it may be gone since it was acquired")
		require.Zero(t, leg.take())
		pass(2 * time.Second)

		b.connections()[0].CloseNow()
		require.False(t, func() bool { synctest.Wait(); return e.pushed() }())
		pass(5 * time.Second)
		require.True(t, e.pushed())
		require.Equal(t, 1, arm.take())
		require.Zero(t, leg.take())
		require.Len(t, l.sent, 2)
	})
}

func TestListThatFailsChecksNothing(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
		l.err = errTest
		var arm checks
		defer e.hold(testID(1), arm.check)()
		b.say(t, `{"deleted":true}`)
		pass(time.Second)
		require.NotEmpty(t, l.sent)
		require.Zero(t, arm.take())
	})
}

func TestFloodOfDeletionsIsOneList(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
		l.took = time.Second
		defer e.hold(testID(1), func() {})()
		pass(time.Minute)
		before := len(l.sent)
		for range 40 {
			b.say(t, `{"deleted":true}`)
		}
		pass(time.Minute)
		require.Equal(t, 2, len(l.sent)-before, "one at once, and one for all that came meanwhile")
	})
}

func TestQueuesAreNotified(t *testing.T) {
	for _, tt := range []struct {
		message string
		listed  []api.Lock
		err     error
		took    time.Duration
		want    map[string]hint
	}{
		{message: `{"deleted":{"lock_name":"arm"}}`, want: map[string]hint{"arm": hintReleased}},
		{message: `{"deleted":true}`, listed: []api.Lock{*lockOf(2, "leg", mark2)},
			want: map[string]hint{"arm": hintReleased}},
		{message: `{"deleted":true}`,
			want: map[string]hint{"arm": hintReleased, "leg": hintReleased}},
		{message: `{"deleted":true}`, err: errTest,
			want: map[string]hint{"arm": hintMaybe, "leg": hintMaybe}},
		{message: `{"created":true}`, want: map[string]hint{}},
	} {
		watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
			arm, _ := e.queues.join("arm", new(queued))
			leg, _ := e.queues.join("leg", new(queued))
			defer e.wait()()
			require.Len(t, b.connections(), 1)
			require.Equal(t, hintUnheard, hintOf(arm), "push is up from now on")
			require.Equal(t, hintUnheard, hintOf(leg))

			l.locks, l.err = tt.listed, tt.err
			b.say(t, tt.message)
			pass(time.Second)
			require.Equal(t, tt.want["arm"], hintOf(arm), tt.message)
			require.Equal(t, tt.want["leg"], hintOf(leg), tt.message)

			b.connections()[0].CloseNow()
			synctest.Wait()
			require.Equal(t, hintPush, hintOf(arm), "push is down")
		})
	}
}

// TestListFromBeforeADeletion names a lock whose deletion was broadcast before the response came,
// when no queue knew that lock.
func TestListFromBeforeADeletion(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
		arm, _ := e.queues.join("arm", new(queued))
		leg, _ := e.queues.join("leg", new(queued))
		defer e.wait()()
		b.connections()
		hintOf(arm)
		hintOf(leg)
		l.took, l.locks = 10*ms, []api.Lock{*lockOf(1, "arm", mark2), *lockOf(2, "leg", mark2)}
		arm.found(lockOf(3, "arm", mark2), arm.asking())
		leg.found(lockOf(2, "leg", mark2), leg.asking())
		e.mu.Lock()
		e.look()
		e.mu.Unlock()
		synctest.Wait()
		b.say(t, `{"deleted":"`+testID(1)+`"}`)
		pass(time.Second)
		require.Equal(t, hintReleased, hintOf(arm))
		require.Equal(t, hintNone, hintOf(leg))
	})
}

func TestHolderThatChangedUnnoticedMakesANameContended(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, l *lists) {
		arm, _ := e.queues.join("arm", new(queued))
		e.queues.join("leg", new(queued))
		defer e.wait()()
		b.connections()
		arm.found(lockOf(1, "arm", mark2), arm.asking())
		l.locks = []api.Lock{*lockOf(3, "arm", mark2), *lockOf(2, "leg", mark2)}
		b.say(t, `{"deleted":true}`)
		require.NotZero(t, e.queues.yield("arm", 0))
		require.Zero(t, e.queues.yield("leg", 0))
		require.Equal(t, testID(3), arm.holderID())
	})
}

func TestNewHolderIsToldByBroadcast(t *testing.T) {
	watched(t, func(t *testing.T, e *events, b *broadcaster, _ *lists) {
		var told []string
		e.queues.join("arm", &queued{mark,
			isFunc(func(holder *api.Lock) { told = append(told, holder.ID) })})
		defer e.wait()()
		for _, kind := range []string{"created", "updated"} {
			b.say(t, `{"`+kind+`":`+lockJSON(1, "arm", mark2, time.Minute)+`}`)
			b.say(t, `{"`+kind+`":`+lockJSON(2, "leg", mark2, time.Minute)+`}`)
			b.say(t, `{"`+kind+`":{"lock_name":"arm"}}`)
			require.Equal(t, []string{testID(1)}, told, kind)
			told = nil
		}
	})
}

func TestEventOfAnEarlierWatchIsIgnored(t *testing.T) {
	var arm checks
	e := &events{queues: new(queues), checks: map[string]func(){testID(1): arm.check}}
	e.stop = make(chan struct{})
	e.handle(api.Event{Kind: api.EventConnected}, make(chan struct{}))
	e.handle(api.Event{Kind: api.EventDeleted, ID: testID(1)}, make(chan struct{}))
	require.False(t, e.pushed())
	require.Zero(t, arm.n)
	e.handle(api.Event{Kind: api.EventDeleted, ID: testID(1)}, e.stop)
	require.Equal(t, 1, arm.n)
}

package streamapi_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// TestAConnectionThatEnds: a close frame gives the places up, a cut keeps their ranks for a while.
func TestAConnectionThatEnds(t *testing.T) {
	for name, row := range map[string]struct {
		end   func(*client)
		first bool // the one that comes back is served first
	}{
		"close frame": {func(c *client) {
			go c.ws.Close(websocket.StatusNormalClosure, "")
		}, false},
		"cut": {func(c *client) { c.conn.Close() }, true},
		"protocol error": {func(c *client) {
			c.send(`what`)
			code, _ := c.end()
			require.EqualValues(c.t, 1002, code)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, memstore.New())
				holder, first, second := b.connect("h"), b.connect("w"), b.connect("w")
				held := holder.ask(1, acquire("arm", markOf(0))).Lock
				first.send(`{"n":1,%s}`, acquire("arm", markOf(1), waits))
				synctest.Wait()
				time.Sleep(time.Millisecond)
				second.send(`{"n":1,%s}`, acquire("arm", markOf(2), waits))
				require.Equal(t, 1, holder.read().Wanted.Waiters)
				row.end(first)
				synctest.Wait()
				time.Sleep(5 * time.Second)
				back := b.connect("w")
				back.send(`{"n":1,%s}`, acquire("arm", markOf(1), waits, again))
				synctest.Wait()
				holder.send(`{"n":2,%s}`, release(held.ID))
				synctest.Wait()
				if row.first {
					second = back
				}
				require.NotNil(t, second.read().Lock)
			})
		})
	}
}

// TestBye: all clients hear it, and are closed soon, whether they agree or not.
func TestBye(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, memstore.New())
		c, deaf := b.connect("ada"), b.connect("bob")
		c.ask(1, acquire("arm", markOf(1)))
		began := time.Now()
		b.engine.Bye()
		b.streams.Bye()
		require.Equal(t, message{Bye: true}, c.read())
		code, _ := c.end()
		require.EqualValues(t, 1001, code)
		require.Zero(t, time.Since(began))
		synctest.Wait()
		time.Sleep(2 * time.Second)
		_, err := deaf.conn.Write([]byte{0x89, 0x80, 0, 0, 0, 0})
		require.Error(t, err)
	})
}

// TestAKeyThatGoes: its connections are told and closed, and their places are given up; those of
// other keys stay.
func TestAKeyThatGoes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, memstore.New())
		c, other := b.connect("ada"), b.connect("bob")
		held := other.ask(1, acquire("arm", markOf(1))).Lock
		c.send(`{"n":1,%s}`, acquire("arm", markOf(2), waits))
		require.Equal(t, &wanted{held.ID, 1}, other.read().Wanted)
		began := time.Now()
		b.remove("ada")
		b.streams.Recheck()
		m := c.read()
		require.Zero(t, m.N)
		require.Equal(t, 401, m.Error.Status)
		code, reason := c.end()
		require.EqualValues(t, 1008, code)
		require.Contains(t, reason, "X-API-KEY")
		require.Equal(t, &wanted{held.ID, 0}, other.read().Wanted)
		require.Zero(t, time.Since(began))
		require.True(t, other.ask(2, ping).Pong)
		late := b.dial("ada") // was let in before the key went
		require.NotNil(t, late.read().Hello)
		require.Equal(t, 401, late.read().Error.Status)
	})
}

// TestASilentPlaceIsPassedOver after half of its lease. Frames of the WebSocket count.
func TestASilentPlaceIsPassedOver(t *testing.T) {
	for name, row := range map[string]struct {
		says  []byte
		first bool
	}{
		"silent": {nil, false},
		"a ping": {[]byte{0x89, 0x80, 0, 0, 0, 0}, true},
		"a pong": {[]byte{0x8a, 0x80, 0, 0, 0, 0}, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, memstore.New())
				holder, first, second := b.connect("h"), b.connect("w"), b.connect("w")
				held := holder.ask(1, acquire("arm", markOf(0))).Lock
				first.send(`{"n":1,%s}`, acquire("arm", markOf(1), waits)) // the lease is 60 s
				require.Equal(t, 1, holder.read().Wanted.Waiters)
				served := make(chan *client, 2)
				for _, c := range []*client{first, second} {
					go func() {
						if _, _, err := c.ws.Read(context.Background()); err == nil {
							served <- c
						}
					}()
				}
				time.Sleep(20 * time.Second)
				_, err := first.conn.Write(row.says)
				require.NoError(t, err)
				time.Sleep(20 * time.Second)
				second.send(`{"n":1,%s}`, acquire("arm", markOf(2), waits))
				synctest.Wait()
				holder.send(`{"n":2,%s}`, release(held.ID))
				require.Equal(t, row.first, first == <-served)
			})
		})
	}
}

// TestCoalescing: responses to requests that came together are written together.
func TestCoalescing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, memstore.New())
		c := b.connect("ada")
		var frames []byte
		for n := range 9 {
			text := []byte(`{"n":0,"cancel":"mark00000000"}`)
			text[5] += byte(n + 1)
			frames = append(append(frames, 0x81, 0x80|byte(len(text)), 0, 0, 0, 0), text...)
		}
		_, err := c.conn.Write(frames)
		require.NoError(t, err)
		one := make([]byte, 4096)
		n, err := c.conn.Read(one)
		require.NoError(t, err)
		require.Equal(t, 9*(2+len(`{"n":1,"done":true}`)), n)
		require.NotZero(t, b.flushed.Load(), "those who watch are told too")
	})
}

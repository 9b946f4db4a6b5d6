package streamapi_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// TestProtocolErrors: what cannot be understood ends the connection, with a reason.
func TestProtocolErrors(t *testing.T) {
	text := func(frames ...string) func(*client) {
		return func(c *client) {
			for _, frame := range frames {
				_ = c.write(frame)
			}
		}
	}
	for name, row := range map[string]struct {
		send   func(*client)
		code   websocket.StatusCode
		reason string
	}{
		"not JSON":        {text(`hello`), 1002, "JSON"},
		"not an object":   {text(`[7]`), 1002, "object"},
		"nothing":         {text(``), 1002, ""},
		"no n":            {text(`{"ping":true}`), 1002, "n"},
		"n is 0":          {text(`{"n":0,"ping":true}`), 1002, "n"},
		"n is negative":   {text(`{"n":-1,"ping":true}`), 1002, "n"},
		"n is no integer": {text(`{"n":1.5,"ping":true}`), 1002, "n"},
		"n is too large":  {text(`{"n":9007199254740992,"ping":true}`), 1002, "n"},
		"n is a string":   {text(`{"n":"1","ping":true}`), 1002, "n"},
		"n is repeated": {text(`{"n":7,"ping":true}`, `{"n":7,"ping":true}`), 1002,
			"n must rise: 7 came after 7"},
		"n falls": {text(`{"n":7,"ping":true}`, `{"n":6,"frobnicate":1}`), 1002,
			"n must rise: 6 came after 7"},
		"binary": {func(c *client) {
			_ = c.ws.Write(context.Background(), websocket.MessageBinary, []byte(`{"n":1}`))
		}, 1002, "binary"},
		"too large": {text(`{"n":1,"x":"` + strings.Repeat("x", 64<<10) + `"}`), 1009,
			""},
		"fragments without end": {fragments(`x`), 1009, ""},
		"an unknown opcode":     {raw(0x83, 0x80, 0, 0, 0, 0), 1002, ""},
		"a long ping":           {raw(0x89, 0xfe, 0, 200, 0, 0, 0, 0), 1002, ""},
		"a reserved bit":        {raw(0xc1, 0x80, 0, 0, 0, 0), 1002, ""},
		"a continuation":        {raw(0x80, 0x80, 0, 0, 0, 0), 1002, ""},
		"a frame without end":   {endless, 1009, ""},
		"no mask":               {raw(0x81, 0x01, 'x'), -1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, memstore.New())
				c := b.connect("ada")
				other := b.connect("bob")
				go row.send(c)
				began := time.Now()
				code, reason := c.end()
				require.Equal(t, row.code, code, reason)
				if row.code == 1002 {
					require.Contains(t, reason, row.reason)
				}
				if row.code != -1 {
					require.Less(t, time.Since(began), 2*time.Second)
				}
				require.True(t, other.ask(1, ping).Pong)
			})
		})
	}
}

// raw sends bytes past the client's WebSocket.
func raw(frame ...byte) func(*client) {
	return func(c *client) { _, _ = c.conn.Write(frame) }
}

// endless sends the frame of a huge message.
func endless(c *client) {
	raw(0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0)(c)
	for {
		if _, err := c.conn.Write(make([]byte, 1000)); err != nil {
			return
		}
	}
}

// fragments sends parts of one message until the connection ends.
func fragments(part string) func(*client) {
	return func(c *client) {
		for op := byte(0x01); ; op = 0 {
			frame := append([]byte{op, 0x80 | byte(len(part)), 0, 0, 0, 0}, part...)
			if _, err := c.conn.Write(frame); err != nil {
				return
			}
		}
	}
}

// TestOddButRight: requests that must be understood.
func TestOddButRight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, memstore.New())
		c := b.connect("ada")
		for i, frame := range []string{
			` { "ping" : true , "n" : %d } `, `{"n":%d.0,"ping":true}`,
			`{"n":%d,"ping":true,"x":` + strings.Repeat(`[`, 50) + strings.Repeat(`]`, 50) + `}`,
			`{"n":1,"ping":true,"n":%d}`, `{"n":%d,"ping":true,"renew":null}`,
			`{"n":%d,"ping":true,"x":"` + strings.Repeat("x", 60<<10) + `"}`,
		} {
			c.send(frame, i+10)
			require.Equal(t, message{N: uint64(i + 10), Pong: true}, c.read())
		}
		deep := strings.Repeat(`[`, 30_000) + strings.Repeat(`]`, 30_000)
		m := c.ask(100, ping+`,"x":`+deep) // refused, or skipped
		require.True(t, m.Pong || m.Error.Status == 400)
		require.True(t, c.ask(9007199254740991, ping).Pong)
	})
}

// TestASlowClientHoldsUpNobody: what one client does not take costs the others no time, and it is
// cut off.
func TestASlowClientHoldsUpNobody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, memstore.New())
		slow, other := b.connect("slow"), b.connect("bob")
		ended := make(chan struct{})
		go func() { // acquires and releases, and never reads
			defer close(ended)
			for n := 1; slow.write(fmt.Sprintf(
				`{"n":%d,%s}`, n, acquire("slow", markOf(n), waits))) == nil; n++ {
			}
		}()
		stuck := b.connect("stuck") // has locks granted, and never reads
		for i := range 100 {
			other.ask(uint64(i+1), acquire(fmt.Sprint("arm", i), markOf(i)))
			stuck.send(`{"n":%d,%s}`, i+1, acquire(fmt.Sprint("arm", i), markOf(i), waits))
			require.NotNil(t, other.read().Wanted)
		}
		began := time.Now()
		for i := range 100 {
			require.True(t, other.ask(uint64(i+1000), cancel(markOf(i))).Done)
		}
		require.True(t, other.ask(2000, ping).Pong)
		require.Zero(t, time.Since(began), "nobody waits for them")
		<-ended
		require.LessOrEqual(t, time.Since(began), 13*time.Second)
		require.GreaterOrEqual(t, time.Since(began), 10*time.Second)
		_, reason := stuck.end()
		require.Contains(t, reason, "EOF")
	})
}

// TestBackPressure: with many messages pending for a client the server does not read from it, and
// goes on when it has taken them.
func TestBackPressure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, memstore.New())
		c, other := b.connect("ada"), b.connect("bob")
		held := other.ask(1, acquire("arm", markOf(1))).Lock
		c.send(`{"n":1,%s}`, acquire("arm", markOf(1), waits))
		require.NotNil(t, other.read().Wanted)
		require.True(t, other.ask(2, release(held.ID)).Done)
		synctest.Wait() // the grant is being written, by another goroutine than the reader

		const requests = 5000
		sent := make(chan int, requests)
		go func() {
			for n := 2; n < requests; n++ {
				if c.write(fmt.Sprintf(`{"n":%d,"ping":true}`, n)) != nil {
					return
				}
				sent <- n
			}
		}()
		synctest.Wait()
		require.Greater(t, len(sent), 900)
		require.Less(t, len(sent), 1500)
		require.NotNil(t, c.read().Lock)
		for n := uint64(2); n < requests; n++ {
			require.Equal(t, message{N: n, Pong: true}, c.read())
		}
	})
}

// TestSilence: a client that sends nothing is dropped after a minute. Pings and pongs count.
func TestSilence(t *testing.T) {
	for name, talk := range map[string]func(*client){
		"silent": nil,
		"pings": func(c *client) {
			_, _ = c.conn.Write([]byte{0x89, 0x80, 0, 0, 0, 0})
		},
		"pongs": func(c *client) {
			_, _ = c.conn.Write([]byte{0x8a, 0x80, 0, 0, 0, 0})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, memstore.New())
				c := b.connect("ada")
				began := time.Now()
				if talk != nil {
					go func() {
						for range 5 {
							time.Sleep(50 * time.Second)
							talk(c)
						}
					}()
				}
				_, reason := c.end()
				require.Contains(t, reason, "EOF")
				want := time.Minute
				if talk != nil {
					want += 250 * time.Second
				}
				require.InDelta(t, want+time.Second, time.Since(began), float64(2*time.Second))
			})
		})
	}
}

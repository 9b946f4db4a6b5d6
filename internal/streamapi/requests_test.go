package streamapi_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

func asClose(err error) (websocket.CloseError, bool) {
	return errors.AsType[websocket.CloseError](err)
}

// TestRequests: each request has the responses that the protocol says.
func TestRequests(t *testing.T) {
	run := func(name string, f func(t *testing.T, b *backend, c *client)) {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, memstore.New())
				f(t, b, b.connect("ada"))
			})
		})
	}
	run("an acquire", func(t *testing.T, _ *backend, c *client) {
		m := c.ask(7, acquire("arm", markOf(1)))
		require.NotNil(t, m.Seen)
		require.EqualValues(t, 7, *m.Seen)
		require.Equal(t, "arm", m.Lock.Name)
		require.Equal(t, "me #"+markOf(1), *m.Lock.Creator)
		require.Equal(t, "192.0.2.7", m.Lock.IP)
		require.Equal(t, "ada", m.Lock.Owner)
		require.Equal(t, time.Minute, m.Lock.ExpiresAt.Sub(m.Lock.CreatedAt))
		require.NotZero(t, m.Lock.Token)
	})
	run("of a held name", func(t *testing.T, _ *backend, c *client) {
		held := c.ask(1, acquire("arm", markOf(1))).Lock
		m := c.ask(2, acquire("arm", markOf(2)))
		require.Equal(t, 409, m.Error.Status)
		require.Equal(t, `lock "arm" is held`, m.Error.Message)
		require.Equal(t, held, m.Error.Lock)
	})
	run("of a held name, waiting", func(t *testing.T, b *backend, c *client) {
		held := c.ask(1, acquire("arm", markOf(1))).Lock
		other := b.connect("bob")
		m := other.ask(1, acquire("arm", markOf(2), waits, progress))
		require.Equal(t, &waiting{0, held}, m.Waiting)
		require.Equal(t, &wanted{held.ID, 1}, c.read().Wanted)
		require.True(t, c.ask(2, release(held.ID)).Done)
		m = other.read()
		require.EqualValues(t, 1, m.N)
		require.Equal(t, "bob", m.Lock.Owner)
		require.EqualValues(t, 1, *m.Seen)
	})
	run("of any of several", func(t *testing.T, b *backend, c *client) {
		c.ask(1, acquire("a", markOf(1)))
		m := c.ask(2, acquireAny(markOf(2), "a", "b", "c"))
		require.Equal(t, "b", m.Lock.Name)
		c.ask(3, acquire("c", markOf(3)))
		m = c.ask(4, acquireAny(markOf(4), "a", "b", "c"))
		require.Equal(t, 409, m.Error.Status)
		require.Equal(t, `lock "a" (or of 2 other names) is held`, m.Error.Message)
	})
	run("of all of several", func(t *testing.T, b *backend, c *client) {
		all := func(mark string, names ...string) string {
			return strings.Replace(acquireAny(mark, names...), "acquire", "acquire_all", 1)
		}
		m := c.ask(1, all(markOf(1), "b", "a"))
		require.Len(t, m.Locks, 2)
		require.Equal(t, "b", m.Locks[0].Name)
		require.Equal(t, "a", m.Locks[1].Name)
		require.EqualValues(t, 1, *m.Seen)
		m = c.ask(2, all(markOf(2), "c", "a"))
		require.Equal(t, 409, m.Error.Status)
		require.Equal(t, "a", m.Error.Lock.Name)
		require.True(t, c.ask(3, cancel(markOf(1))).Done)
		locks, err := b.engine.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, locks)
		m = c.ask(4, all(markOf(4), "c"))
		require.Len(t, m.Locks, 1)
	})
	run("renew", func(t *testing.T, _ *backend, c *client) {
		held := c.ask(1, acquire("arm", markOf(1))).Lock
		m := c.ask(2, renew(held.ID, 90*time.Second))
		require.Nil(t, m.Seen)
		require.Equal(t, held.ID, m.Lock.ID)
		require.Equal(t, 90*time.Second, time.Until(m.Lock.ExpiresAt))
		m = c.ask(3, renew(nobody, time.Minute))
		require.Equal(t, 404, m.Error.Status)
		require.Contains(t, m.Error.Message, nobody)
	})
	run("release", func(t *testing.T, _ *backend, c *client) {
		held := c.ask(1, acquire("arm", markOf(1))).Lock
		require.True(t, c.ask(2, release(held.ID)).Done)
		require.Equal(t, 404, c.ask(3, release(held.ID)).Error.Status)
		require.NotNil(t, c.ask(4, acquire("arm", markOf(2))).Lock)
	})
	run("cancel", func(t *testing.T, b *backend, c *client) {
		held := c.ask(1, acquire("arm", markOf(1))).Lock
		c.send(`{"n":2,%s}`, acquire("arm", markOf(2), waits))
		require.Equal(t, &wanted{held.ID, 1}, c.read().Wanted)
		c.send(`{"n":3,"cancel":%q}`, markOf(2))
		require.Equal(t, &wanted{held.ID, 0}, c.read().Wanted)
		m := c.read()
		require.EqualValues(t, 3, m.N)
		require.True(t, m.Done)
		require.True(t, c.ask(4, release(held.ID)).Done)
		c.ask(5, ping)
	})
	run("cancel, of a lock", func(t *testing.T, b *backend, c *client) {
		c.ask(1, acquire("arm", markOf(1)))
		require.True(t, c.ask(2, cancel(markOf(1))).Done)
		require.NotNil(t, c.ask(3, acquire("arm", markOf(2))).Lock)
	})
	run("cancel, of a mark of elsewhere", func(t *testing.T, b *backend, c *client) {
		held := c.ask(1, acquire("arm", markOf(1))).Lock
		other := b.connect("ada")
		require.True(t, other.ask(1, cancel(markOf(1))).Done)
		m := c.read()
		require.Equal(t, held, m.Deleted)
		require.Equal(t, "ada", *m.By)
		m = other.ask(2, acquire("arm", markOf(1), again))
		require.Equal(t, 410, m.Error.Status)
		require.Contains(t, m.Error.Message, `lock "arm"`)
	})
	run("another owner's mark", func(t *testing.T, b *backend, c *client) {
		c.ask(1, acquire("arm", markOf(1)))
		other := b.connect("bob")
		require.True(t, other.ask(1, cancel(markOf(1))).Done)
		require.Equal(t, 409, other.ask(2, acquire("arm", markOf(2))).Error.Status)
	})
	run("ping", func(t *testing.T, _ *backend, c *client) {
		require.True(t, c.ask(11, ping).Pong)
	})
	run("unknown", func(t *testing.T, _ *backend, c *client) {
		m := c.ask(7, `"frobnicate":{"lock_names":[]}`)
		require.Equal(t, 400, m.Error.Status)
		require.Contains(t, m.Error.Message, "acquire")
		require.True(t, c.ask(8, `"ping":true,"frobnicate":[1]`).Pong, "an unknown member")
	})
	run("wrong", func(t *testing.T, _ *backend, c *client) {
		for i, request := range []string{
			`"acquire":{"lock_names":["a"],"creator":"no mark","lease":60}`,
			`"acquire":{"lock_names":[],"creator":"x #` + markOf(1) + `","lease":60}`,
			`"acquire":{"lock_names":["a","a"],"creator":"x #` + markOf(1) + `","lease":60}`,
			`"acquire":{"lock_names":["a"],"creator":"x #` + markOf(1) + `","lease":0.1}`,
			acquire("a", markOf(1), `"priority":11`),
			acquire("a", markOf(1), `"waited":-1`),
			`"renew":"17","lease":60`, `"renew":"` + nobody + `"`, `"release":17`,
			`"cancel":"short"`, "\"ping\":\"\xff\"",
		} {
			m := c.ask(uint64(i+1), request)
			require.NotNil(t, m.Error, request)
			require.Equal(t, 400, m.Error.Status, request)
			require.NotEmpty(t, m.Error.Message)
		}
		require.True(t, c.ask(100, ping).Pong)
	})
	run("a mark that is open", func(t *testing.T, b *backend, c *client) {
		held := c.ask(1, acquire("a", markOf(1))).Lock
		c.send(`{"n":2,%s}`, acquire("a", markOf(2), waits))
		require.NotNil(t, c.read().Wanted)
		m := c.ask(3, acquire("b", markOf(2), waits))
		require.Equal(t, 409, m.Error.Status, "under another name")
		c.send(`{"n":4,%s}`, acquire("a", markOf(2), waits))
		c.send(`{"n":5,"release":%q}`, held.ID)
		got := map[uint64]message{}
		for range 2 {
			m := c.read()
			got[m.N] = m
		}
		require.True(t, got[5].Done)
		require.NotNil(t, got[4].Lock, "the newer number is answered")
	})
}

// TestLossesAreTold to the connection on which a lock was acquired or renewed last.
func TestLossesAreTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, memstore.New())
		c, other := b.connect("ada"), b.connect("bob")
		held := c.ask(1, acquire("arm", markOf(1))).Lock
		require.True(t, other.ask(1, release(held.ID)).Done)
		m := c.read()
		require.Equal(t, held, m.Deleted)
		require.Equal(t, "bob", *m.By)

		held = c.ask(2, acquire("arm", markOf(2))).Lock
		renewed := other.ask(2, renew(held.ID, 2*time.Second)).Lock
		time.Sleep(10 * time.Second)
		m = other.read()
		require.Equal(t, renewed, m.Deleted)
		require.Nil(t, m.By, "it expired")
		require.True(t, c.ask(3, ping).Pong)
	})
}
